// A list with other content is drawn anew: what the reader opened in it stays open, and what has the focus keeps it.
// Things are told by the `data-key` of what they stand in (an alert, an article), which the server gives.
(function () {
  "use strict";
  const open = new Set(); // keys of the details that the reader opened
  let held = null; // what has the focus, and how it is told from others

  function name(element) {
    const owner = element.closest("[data-key]");
    if (!owner) return null;
    const data = element.dataset;
    return [owner.dataset.key, element.tagName, element.getAttribute("href"), data.path, data.body].join("\n");
  }

  function again() {
    document.querySelectorAll("details[data-key]:not([open])").forEach(function (details) {
      if (open.has(details.dataset.key)) details.open = true;
    });
    if (!held || held.element.isConnected || document.activeElement !== document.body) return;
    const same = Array.from(document.querySelectorAll(held.element.tagName)).find(function (element) {
      return name(element) === held.name;
    });
    if (same) same.focus({ preventScroll: true });
  }

  document.addEventListener("toggle", function (event) {
    const key = event.target.dataset && event.target.dataset.key;
    if (!key || !event.target.isConnected) return;
    if (event.target.open) open.add(key);
    else open.delete(key);
  }, true);

  document.addEventListener("focusin", function (event) {
    const found = name(event.target);
    held = found ? { element: event.target, name: found } : null;
  });

  // Who left it themselves does not want it back.
  document.addEventListener("focusout", function (event) {
    const left = event.target;
    setTimeout(function () {
      if (held && held.element === left && left.isConnected && document.activeElement !== left) held = null;
    });
  });

  new MutationObserver(again).observe(document.documentElement, { childList: true, subtree: true });
})();
