"""The scenes, in the order of the table: what is done to the containers while the load goes on."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from containers.load import Load
from containers.stack import PARTS, SERVICES, Stack

HOLD_SECONDS = 8.0
"""How long a part is frozen or cut off: longer than what it takes others to notice."""
STOP_BAR_SECONDS = 10.0
UNPUBLISHED_USER = "54321:54321"

Scene = Callable[[Stack, Load], Awaitable[list[str]]]
"""Returns what was wrong, beside what load and check will tell."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One row of the table."""

    name: str
    title: str
    scene: Scene
    bar_seconds: float
    """How long no update may be acknowledged."""
    is_checked: bool = True
    """Whether `tracking check` is run after it, and not only after a later one: it takes seconds to start."""


async def nothing(_: Stack, load: Load) -> list[str]:
    """The load alone."""
    await load.goes_on(200)
    return []


async def started_in_order(stack: Stack, _: Load) -> list[str]:
    """Servers, then services, then the proxy, with no more rights than are written."""
    faults = []
    began = {part: (await stack.container(part))["State"]["StartedAt"] for part in PARTS}
    servers, services = ("rabbitmq", "mongodb"), [began[name] for name in SERVICES]
    if not max(began[name] for name in servers) < min(services) <= max(services) < began["proxy"]:
        faults.append(f"started in another order: {began}")
    for part in PARTS:
        host = (await stack.container(part))["HostConfig"]
        if part != "mongodb" and not (host["ReadonlyRootfs"] and host["CapDrop"] == ["ALL"]):
            faults.append(f"{part} may write or has capabilities")
    said = await stack.check("--user", UNPUBLISHED_USER)
    if said != "no faults":
        faults.append(f"as another user: {said}")
    return faults


def restarted(part: str) -> Scene:
    """By an operator."""

    async def scene(stack: Stack, _: Load) -> list[str]:
        await stack.restart(part)
        return []

    return scene


def killed(part: str) -> Scene:
    """With SIGKILL, from outside."""

    async def scene(stack: Stack, load: Load) -> list[str]:
        before = (await stack.container(part))["RestartCount"]
        await stack.kill(part)
        await load.goes_on(1)
        await stack.all_healthy()
        after = (await stack.container(part))["RestartCount"]
        return [] if after > before else [f"{part} was not started again by itself"]

    return scene


def paused(part: str) -> Scene:
    """Frozen, for some seconds."""

    async def scene(stack: Stack, _: Load) -> list[str]:
        async with stack.paused(part):
            await asyncio.sleep(HOLD_SECONDS)
        return []

    return scene


def cut_off(part: str) -> Scene:
    """Without its network, for some seconds."""

    async def scene(stack: Stack, _: Load) -> list[str]:
        async with stack.cut_off(part):
            await asyncio.sleep(HOLD_SECONDS)
        return []

    return scene


async def services_made_anew(stack: Stack, _: Load) -> list[str]:
    """As an upgrade does."""
    await stack.up("--force-recreate", "--no-deps", "proxy", *SERVICES)
    return []


async def all_made_anew(stack: Stack, _: Load) -> list[str]:
    """Servers, too."""
    await stack.up("--force-recreate")
    return []


async def scaled(stack: Stack, load: Load) -> list[str]:
    """Two replicas, of which the first is stopped: the second does its work. Then one again."""
    sizes = ("notifier", "ingest", "query")
    await stack.up("--no-recreate", *(word for name in sizes for word in ("--scale", f"{name}=2")))
    faults = []
    for name in sizes:
        replicas = [one["Id"] for one in await stack.containers(name)]
        if len(replicas) != 2:
            faults.append(f"{len(replicas)} replicas of {name}")
        for away in replicas:
            await stack.engine.docker("stop", away)
            await load.goes_on(20)
            faults += await load.read_back()
            if not await load.opens_stream():
                faults.append(f"no stream is opened while a {name} is stopped")
            await stack.engine.docker("start", away)
            await stack.all_healthy()
    await stack.up("--no-recreate", *(word for name in sizes for word in ("--scale", f"{name}=1")))
    return faults


async def stopped_and_started(stack: Stack, _: Load) -> list[str]:
    """Each part alone, under load: within its bar, and with 0."""
    faults = []
    for part in PARTS:
        began = asyncio.get_running_loop().time()
        await stack.engine.compose("stop", part)
        took = asyncio.get_running_loop().time() - began
        code = (await stack.container(part))["State"]["ExitCode"]
        if code or took > STOP_BAR_SECONDS:
            faults.append(f"{part} stopped in {took:.1f} s with {code}")
        await stack.engine.compose("start", part)
        await stack.all_healthy()
    return faults


async def down_and_up(stack: Stack, _: Load) -> list[str]:
    """Containers and network are removed; volumes stay."""
    await stack.engine.compose("down")
    await stack.up()
    return []


_FAULTS: tuple[tuple[str, str, Callable[[str], Scene], float], ...] = (
    ("restart", "restarted", restarted, 30),
    ("kill", "killed", killed, 30),
    ("pause", f"frozen {HOLD_SECONDS:g} s", paused, HOLD_SECONDS + 15),
    ("cut", f"cut off {HOLD_SECONDS:g} s", cut_off, HOLD_SECONDS + 15),
)

SCENES = (
    Entry("start", "started in order, as any user, without rights", started_in_order, 15),
    Entry("nothing", "load alone", nothing, 5),
    *(
        Entry(f"{name}-{part}", f"{part} {words}", scene(part), bar, name == "cut")
        for part in PARTS
        for name, words, scene, bar in _FAULTS
    ),
    Entry("recreate-services", "services and proxy made anew", services_made_anew, 90),
    Entry("recreate-all", "all made anew", all_made_anew, 150),
    Entry("scale", "two replicas of notifier, ingest and query, then one", scaled, 10),
    Entry("stop", "each part stopped, and started", stopped_and_started, 60),
    Entry("down", "`down` and `up`", down_and_up, 150),
)
