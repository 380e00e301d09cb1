// A refreshed part keeps what the reader has opened.

/** An open <details> stays open when its part of the page is drawn again. */
export function keepDetailsOpen(htmx) {
  htmx.registerExtension("keep-open", {
    htmx_before_morph_attr: (element, detail) => !(element instanceof HTMLDetailsElement && detail.attrName === "open"),
  });
}
