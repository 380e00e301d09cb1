// The console's behaviour. Every page works without it; with it, pages stay fresh and nothing typed is lost.
import htmx from "htmx.org";
import { keepDetailsOpen } from "./morph.js";
import { listen } from "./live.js";
import { tellTimes } from "./times.js";
import { watchComposers } from "./composer.js";
import { showWhatHolds, submitOnChange } from "./forms.js";

keepDetailsOpen(htmx);
tellTimes();
submitOnChange();
watchComposers();
if (document.body.dataset.live) listen(htmx, document.body.dataset.live);

document.addEventListener("htmx:after:swap", () => {
  tellTimes();
  watchComposers();
  showWhatHolds();
});
