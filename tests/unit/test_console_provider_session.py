"""The session of a provider in several tabs: what a sign-out in one of them does in another."""

from console_scripts import answer_of

SCRIPT = """
  const storage = () => {
    const kept = new Map();
    const setItem = (name, value) => kept.set(name, value);
    const getItem = (name) => kept.get(name) ?? null;
    return { setItem, getItem, removeItem: (name) => kept.delete(name) };
  };
  globalThis.sessionStorage = storage();
  globalThis.localStorage = storage();
  let told;
  globalThis.addEventListener = (_name, act) => (told = act);
  const { AT_PROVIDER, Session } = await import("./session.js");
  const provider = {
    token: "e30.e30.e30",
    leave: () => new Promise(() => {}),
    renewIfDue: async () => { throw Object.assign(new Error("over"), { isFinal: true }); },
    forget() { this.token = null; },
  };
  const names = { scope: ["scope"], merchants: "merchants", writing: [], correcting: [], managing: [] };
  const session = new Session(undefined, names, provider);
  const heard = [];
  session.addEventListener("ended", ({ detail }) => heard.push(detail));
  session.addEventListener("change", ({ detail }) => heard.push(detail.isSamePerson));
  const signedOut = () => told({ key: AT_PROVIDER, newValue: null });
"""


def test_a_tab_whose_session_has_ended_is_cleared_by_a_sign_out_in_another_one() -> None:
    script = f"""{SCRIPT}
        await session.freshToken().catch(() => {{}});
        signedOut();
        console.log(JSON.stringify(heard));
    """
    assert answer_of(script, None) == ["over", False]


def test_a_sign_out_clears_other_tabs_but_not_one_with_a_pasted_token() -> None:
    script = f"""{SCRIPT}
        signedOut();
        const first = heard.splice(0);
        session.signIn("a.b.c");
        heard.length = 0;
        signedOut();
        console.log(JSON.stringify([first, heard, session.token]));
    """
    assert answer_of(script, None) == [[False], [], "a.b.c"]


def test_a_sign_out_does_not_wait_for_the_provider() -> None:
    script = f"""{SCRIPT}
        localStorage.setItem(AT_PROVIDER, "1");
        session.signOutAtProvider();
        console.log(JSON.stringify(localStorage.getItem(AT_PROVIDER)));
    """
    assert answer_of(script, None) is None
