// Runs before everything else in the page: the colours that were chosen, and what is said when a part of the page
// cannot be loaded. The scripts that could say it may be the ones that are missing.
{
  const page = document.documentElement;
  const theme = localStorage.getItem("tracking.theme");
  if (theme === "light" || theme === "dark") page.dataset.theme = theme;

  /** How often this page was loaded in vain, in a row; `configuration.js` sets it back. */
  const FAILURES = "tracking.load_failures";
  const MAX_WAIT_SECONDS = 60;
  const SLOW_SECONDS = 15;

  const tell = (title, words) => {
    const show = () => {
      const box = document.getElementById("load-fault");
      box.hidden = false;
      box.querySelector("strong").textContent = title;
      box.querySelector("span").textContent = words;
    };
    if (document.readyState === "loading") addEventListener("DOMContentLoaded", show);
    else show();
  };

  // A module that cannot be loaded, or one that it imports, is told of at the element of the script.
  addEventListener(
    "error",
    ({ target }) => {
      const isPart = target instanceof HTMLScriptElement || (target instanceof HTMLLinkElement && target.rel === "stylesheet");
      if (!isPart || page.dataset.partMissing) return;
      page.dataset.partMissing = "true";
      const failures = Number(sessionStorage.getItem(FAILURES) ?? 0) + 1;
      sessionStorage.setItem(FAILURES, String(failures));
      const seconds = Math.min(MAX_WAIT_SECONDS, 2 ** failures);
      tell("A part of this page could not be loaded", `It is tried again in ${seconds} s.`);
      setTimeout(() => location.reload(), seconds * 1000);
    },
    true,
  );
  setTimeout(() => {
    const { started, partMissing } = page.dataset;
    if (!started && !partMissing) tell("Still loading", "It takes longer than usual. The page opens by itself as soon as everything is there.");
  }, SLOW_SECONDS * 1000);
}
