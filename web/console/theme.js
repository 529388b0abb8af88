/**
 * The theme, light or dark: that of the system, or the user's choice, which page_start.js applies at the start.
 *
 * @module theme
 */

const KEY = "tracking.theme";
const CHOICES = ["system", "light", "dark"];
const NAMES = { system: "Colours: as the system", light: "Colours: light", dark: "Colours: dark" };

const chosen = () => (CHOICES.includes(localStorage.getItem(KEY)) ? localStorage.getItem(KEY) : "system");

function apply(choice) {
  if (choice === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = choice;
}

/** Makes a button that switches through the choices. */
export function connectThemeSwitch(button) {
  const label = button.querySelector("span");
  const draw = () => {
    label.textContent = NAMES[chosen()];
  };
  button.addEventListener("click", () => {
    const next = CHOICES[(CHOICES.indexOf(chosen()) + 1) % CHOICES.length];
    localStorage.setItem(KEY, next);
    apply(next);
    draw();
  });
  draw();
}
