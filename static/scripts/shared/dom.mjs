// @ts-check
// Creates elements, whose text is always a text node, and schedules their updates.

/**
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {Partial<HTMLElementTagNameMap[Tag]> & { attributes?: never }} [properties]
 * @param {...(Node | string)} children
 * @returns {HTMLElementTagNameMap[Tag]}
 */
export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  Object.assign(element, properties);
  element.append(...children);
  return element;
}

const ICONS = {
  menu: "M4 7h16M4 12h16M4 17h16",
  plus: "M12 5v14M5 12h14",
  sliders: "M4 8h10M18 8h2M4 16h2M10 16h10M16 6v4M8 14v4",
  copy: "M9 9h10v10H9zM5 15V5h10",
  check: "M5 12.5l4.5 4.5L19 7.5",
  retry: "M4.5 12a7.5 7.5 0 1 0 2.3-5.4M4.5 4.5v4h4",
  edit: "M5 19l.8-3.6L16.2 5l2.8 2.8L8.6 18.2 5 19z",
  more: "M6 12h.01M12 12h.01M18 12h.01",
  left: "M14.5 6l-6 6 6 6",
  right: "M9.5 6l6 6-6 6",
  send: "M12 19V6M6 11.5L12 5.5l6 6",
  stop: "M8 8h8v8H8z",
  down: "M12 5v13M6 12.5l6 6 6-6",
  close: "M6.5 6.5l11 11M17.5 6.5l-11 11",
  key: "M14.5 9.5a4 4 0 1 1-3.9-4 4 4 0 0 1 3.9 4zM13.5 12.5L20 19M17 16l2-2",
  theme: "M12 4a8 8 0 1 0 0 16zM12 4a8 8 0 0 1 0 16",
  shield: "M12 4l7 2.5v5.2c0 4-2.9 7-7 8.3-4.1-1.3-7-4.3-7-8.3V6.5z",
};

/**
 * An SVG icon in the current text colour. It is hidden from screen readers: its parent has the label.
 * @param {keyof typeof ICONS} name
 */
export function icon(name) {
  const namespace = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(namespace, "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS(namespace, "path");
  path.setAttribute("d", ICONS[name]);
  svg.append(path);
  return svg;
}

/**
 * A button that shows an icon and has its label for screen readers and as a tooltip.
 * @param {keyof typeof ICONS} name
 * @param {string} label
 * @param {() => void} act
 */
export function iconButton(name, label, act) {
  const button = make("button", { type: "button", className: "icon-button", title: label, ariaLabel: label }, icon(name));
  button.addEventListener("click", act);
  return button;
}

/** @param {string} text @returns {Promise<boolean>} whether it is on the clipboard */
export async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return false; // browsers deny the clipboard to pages that were loaded over plain HTTP from another machine
  }
}

/**
 * @param {string} id
 * @returns {HTMLElement} the element of the page's HTML
 */
export function elementById(id) {
  const el = document.getElementById(id);
  if (!el) throw new Error(`the page has no #${id}`);
  return el;
}

/**
 * Delays updates to the next frame, and merges those of one frame into one. A hidden page has no frames and no updates.
 * @param {() => void} update
 * @returns {() => void} requests an update
 */
export function oncePerFrame(update) {
  let isRequested = false;
  return () => {
    if (isRequested) return;
    isRequested = true;
    requestAnimationFrame(() => {
      isRequested = false;
      update();
    });
  };
}
