// Light, dark, or as the system has it.

import { byId, setText } from "./dom.js";

const THEME = "kottos.theme"; // in localStorage
const NEXT = { auto: "light", light: "dark", dark: "auto" };
const system = matchMedia("(prefers-color-scheme: dark)");

function chosen() {
  const stored = localStorage.getItem(THEME);
  return stored in NEXT ? stored : "auto";
}

function apply() {
  const theme = chosen();
  if (theme === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  setText(byId("theme-name"), theme[0].toUpperCase() + theme.slice(1));
}

/** onChange: colours are other ones now. */
export function followTheme(onChange) {
  apply();
  byId("theme").addEventListener("click", () => {
    localStorage.setItem(THEME, NEXT[chosen()]);
    apply();
    onChange();
  });
  system.addEventListener("change", onChange);
}
