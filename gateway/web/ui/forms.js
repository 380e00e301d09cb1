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
