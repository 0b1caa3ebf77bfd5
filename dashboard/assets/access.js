// Dash draws its radio buttons as a nameless list box with inputs inside its options, and gives its dropdowns a hidden
// input that takes the focus for nobody to see. Here the first become a named group of radio buttons, which they are,
// and the second leave the order of the Tab key to the dropdown's own button.
(function () {
  "use strict";
  function set(element, name, value) {
    if (element.getAttribute(name) !== value) element.setAttribute(name, value);
  }

  function mend() {
    document.querySelectorAll(".dash-radioitems[role]").forEach(function (group) {
      set(group, "role", "radiogroup");
      set(group, "aria-labelledby", "label-" + group.id);
      group.querySelectorAll("[role=option], [aria-selected]").forEach(function (option) {
        option.removeAttribute("role");
        option.removeAttribute("aria-selected");
      });
    });
    document.querySelectorAll(".dash-dropdown-focus-target").forEach(function (input) { set(input, "tabindex", "-1"); });
    document.querySelectorAll("button.dash-dropdown").forEach(function (button) { set(button, "tabindex", "0"); });
  }

  new MutationObserver(mend).observe(document.documentElement, {
    childList: true, subtree: true, attributes: true, attributeFilter: ["role", "aria-selected", "tabindex"],
  });
})();
