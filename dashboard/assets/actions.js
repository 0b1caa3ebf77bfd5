// Who is here, and what they do about alerts. The API decides who may; this only hides what would be refused.
(function () {
  "use strict";

  function here(me) {
    document.body.classList.toggle("acts", me.acts);
    const place = document.getElementById("account");
    if (!place || place.firstChild || !me.leaves) return;
    const form = document.createElement("form");
    form.method = "post";
    form.action = "/logout";
    const name = document.createElement("span");
    name.textContent = me.name + " (" + me.role + ") ";
    const out = document.createElement("button");
    out.className = "button";
    out.textContent = "Log out";
    form.append(name, out);
    place.append(form);
  }

  function refresh() {
    window.dash_clientside.set_props("pulse", { data: JSON.stringify({ version: "acted", count: Date.now() }) });
  }

  document.addEventListener("click", async function (event) {
    const button = event.target.closest && event.target.closest("button.act");
    if (!button) return;
    button.disabled = true;
    const answer = await fetch(button.dataset.path, {
      method: button.dataset.method, body: button.dataset.body, headers: { "Content-Type": "application/json" },
    });
    button.disabled = false;
    if (!answer.ok) {
      const problem = await answer.json().catch(function () { return {}; });
      button.title = problem.detail || "refused";
      button.textContent = "✕ " + button.title;
      return;
    }
    button.textContent = "✓ " + button.textContent.replace(/^✓ /, "");
    refresh();
  });

  (function wait() {
    if (!document.getElementById("account")) { setTimeout(wait, 100); return; }
    fetch("/api/v1/me").then(function (answer) {
      if (answer.status === 401) location.assign("/login");
      else if (answer.ok) answer.json().then(here);
    }).catch(function () {});
  })();
})();
