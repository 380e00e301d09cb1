// Small help for forms: a choice that acts at once, a question before what cannot be taken back.

export function submitOnChange() {
  document.addEventListener("change", (event) => {
    const element = event.target;
    if (element.closest?.("[data-submit-on-change]")) element.form?.requestSubmit();
  });
  document.addEventListener("submit", (event) => {
    const question = event.submitter?.dataset.confirm;
    if (question && !window.confirm(question)) {
      event.preventDefault();
      event.stopImmediatePropagation();
    }
  }, true);
}

/** A list that somebody has used keeps its choice when the page is drawn again: show what holds now. */
export function showWhatHolds() {
  for (const list of document.querySelectorAll(".controls select")) {
    if (list === document.activeElement) continue;
    for (const option of list.options) option.selected = option.defaultSelected;
  }
}
