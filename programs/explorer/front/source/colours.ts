// Colours of the style sheet for what is drawn on a canvas, and word when light and dark change.

const DARK = matchMedia("(prefers-color-scheme: dark)");

export function colour(name: string): string {
  return getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
}

export function onScheme(change: () => void): () => void {
  DARK.addEventListener("change", change);
  return () => DARK.removeEventListener("change", change);
}
