// @ts-check
// Makes elements, whose text enters as text nodes only, and keeps the keyboard's place.

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

/** To where the person writes, when what had the focus goes away. Not on touch screens: there it opens the keyboard. */
export function focusComposer() {
  if (matchMedia("(hover: hover)").matches) document.getElementById("composer-text")?.focus({ preventScroll: true });
}
