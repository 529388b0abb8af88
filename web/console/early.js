// Before the first pixel, so that nobody who chose dark is shown light. The rest is in theme.js.
{
  const theme = localStorage.getItem("tracking.theme");
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
}
