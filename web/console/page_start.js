// Runs before everything else in the page: applies the chosen colours, and shows a message if a part of the page
// cannot be loaded. The other scripts may be the missing ones.
{
  const page = document.documentElement;
  const theme = localStorage.getItem("tracking.theme");
  if (theme === "light" || theme === "dark") page.dataset.theme = theme;

  /** The number of failed loads in a row; `configuration.js` resets it. */
  const FAILURES = "tracking.load_failures";
  const MAX_WAIT_SECONDS = 60;
  const SLOW_SECONDS = 15;

  const show = (title, words) => {
    const fill = () => {
      const box = document.getElementById("load-fault");
      box.hidden = false;
      box.querySelector("strong").textContent = title;
      box.querySelector("span").textContent = words;
    };
    if (document.readyState === "loading") addEventListener("DOMContentLoaded", fill);
    else fill();
  };

  // If a module cannot be loaded, or one that it imports, the element of the script gets the event.
  addEventListener(
    "error",
    ({ target }) => {
      const isPart = target instanceof HTMLScriptElement || (target instanceof HTMLLinkElement && target.rel === "stylesheet");
      if (!isPart || page.dataset.partMissing) return;
      page.dataset.partMissing = "true";
      const failures = Number(sessionStorage.getItem(FAILURES) ?? 0) + 1;
      sessionStorage.setItem(FAILURES, String(failures));
      const seconds = Math.min(MAX_WAIT_SECONDS, 2 ** failures);
      show("A part of this page could not be loaded", `It is tried again in ${seconds} s.`);
      setTimeout(() => location.reload(), seconds * 1000);
    },
    true,
  );
  setTimeout(() => {
    const { started, partMissing } = page.dataset;
    if (!started && !partMissing) show("Still loading", "It takes longer than usual. The page opens by itself as soon as everything is there.");
  }, SLOW_SECONDS * 1000);
}
