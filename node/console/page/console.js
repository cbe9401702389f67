// The operator's page. Everything it shows comes from /api/v1 with the token; it keeps the token for this tab only and puts what it
// gets into the page as text, never as markup.
"use strict";

const REFRESH_MS = 5000;
let token = sessionStorage.getItem("concordat-token") || "";
let current = null;
let timer = null;

const fetchWith = (path) => fetch(path, {headers: {Authorization: "Bearer " + token}, cache: "no-store"});

async function api(path) {
    const response = await fetchWith("/api/v1/" + path);
    const body = await response.json();
    if (!response.ok) {
        const error = body.error || {};
        throw new Error((error.detail || error.message || response.statusText) + (error.code ? " (" + error.code + ")" : ""));
    }
    return body;
}

// --- making elements ---

function make(name, properties, ...children) {
    const element = document.createElement(name);
    Object.assign(element, properties || {});
    for (const child of children.flat()) {
        element.append(child instanceof Node ? child : String(child ?? ""));
    }
    return element;
}

const panel = (title, ...children) => make("section", {}, make("h2", {}, title), ...children);
const note = (text, className) => make("p", {className: className || "dim"}, text);

function table(columns, rows, empty) {
    if (!rows.length) {
        return note(empty);
    }
    const cell = (column, row) => {
        const value = column.of(row);
        return make("td", {className: column.number ? "number" : column.className ? column.className(row) : ""}, value ?? "");
    };
    return make("table", {}, make("thead", {}, make("tr", {}, columns.map((c) => make("th", {scope: "col", className: c.number ? "number" : ""}, c.title)))),
        make("tbody", {}, rows.map((row) => make("tr", {}, columns.map((c) => cell(c, row))))));
}

function facts(pairs) {
    return make("dl", {}, pairs.flatMap(([name, value, className]) => [make("dt", {}, name), make("dd", {className: className || ""}, value ?? "")]));
}

function bar(part, text) {
    const filled = make("span", {});
    filled.style.width = Math.max(0, Math.min(1, part)) * 100 + "%";
    return make("div", {className: "bar", title: text}, filled);
}

const SVG = "http://www.w3.org/2000/svg";
function svg(name, attributes, text) {
    const element = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) {
        element.setAttribute(key, value);
    }
    if (text !== undefined) {
        element.textContent = text;
    }
    return element;
}

function curve(points, label) {
    const known = points.filter((p) => Number.isFinite(p.y));
    if (known.length < 2) {
        return note("No curve yet: fewer than two evaluated rounds.");
    }
    const [width, height, left, bottom] = [640, 220, 50, 190];
    const low = Math.min(...known.map((p) => p.y)), high = Math.max(...known.map((p) => p.y));
    const span = high - low || 1, last = Math.max(...known.map((p) => p.x)), first = Math.min(...known.map((p) => p.x));
    const at = (p) => [left + (p.x - first) / (last - first || 1) * (width - left - 15), bottom - (p.y - low) / span * 165];
    const picture = svg("svg", {viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label});
    picture.append(svg("line", {class: "axis", x1: left, y1: bottom, x2: width, y2: bottom}), svg("line", {class: "axis", x1: left, y1: 15, x2: left, y2: bottom}),
        svg("text", {x: 2, y: 25}, high.toPrecision(4)), svg("text", {x: 2, y: bottom}, low.toPrecision(4)),
        svg("text", {x: left, y: height - 10}, "round " + first), svg("text", {x: width - 70, y: height - 10}, "round " + last),
        svg("polyline", {class: "curve", points: known.map((p) => at(p).join(",")).join(" ")}));
    for (const p of known) {
        const [x, y] = at(p);
        const dot = svg("circle", {cx: x, cy: y, r: 3});
        dot.append(svg("title", {}, `round ${p.x}: ${p.y}`));
        picture.append(dot);
    }
    return picture;
}

const fixed = (value, digits) => Number.isFinite(value) ? value.toFixed(digits) : "";
const stateClass = (state) => ({up: "good", serving: "good", ok: "good", done: "good", down: "bad", revoked: "bad", fail: "bad", failed: "bad", warn: "warn", connecting: "warn", waiting: "warn"})[state] || "";

// --- views ---

function budgetTable(budgets) {
    return table([
        {title: "Dataset", of: (b) => b.dataset},
        {title: "Budget left", of: (b) => bar(b.rho_total ? b.rho_left / b.rho_total : 0, "rho " + b.rho_left + " of " + b.rho_total)},
        {title: "ε left", number: true, of: (b) => fixed(b.epsilon_left, 3)},
        {title: "of", number: true, of: (b) => fixed(b.epsilon_total, 3)},
        {title: "δ", number: true, of: (b) => b.delta},
    ], budgets, "No dataset has a budget here.");
}

async function overview() {
    const [status, doctor] = await Promise.all([api("status"), api("doctor")]);
    document.getElementById("node").textContent = status.node + " · " + status.federation;
    return [
        panel("This node", facts([["State", status.state, stateClass(status.state)], ["Organisation", status.org], ["Listens on", status.listen], ["Since", status.since],
            ["Version", status.version + ", cryptography by " + status.cryptography], ["Fingerprint", status.fingerprint]])),
        panel("Checks", table([{title: "Check", of: (c) => c.check}, {title: "Result", of: (c) => c.result, className: (c) => stateClass(c.result)},
            {title: "What", of: (c) => c.text || c.detail || ""}, {title: "Cure", of: (c) => c.cure || ""}], doctor.checks || [], "No checks.")),
        panel("Peers", table([{title: "Node", of: (p) => p.node}, {title: "Organisation", of: (p) => p.org}, {title: "State", of: (p) => p.state, className: (p) => stateClass(p.state)},
            {title: "Last seen", of: (p) => p.last_seen || ""}, {title: "Same records", of: (p) => p.root_equal ? "yes" : "no"}], status.peers || [], "No other member is known.")),
        panel("Budgets", budgetTable(status.budgets || [])),
    ];
}

async function datasets() {
    const [catalog, own] = await Promise.all([api("catalog"), api("dataset/list")]);
    return [
        panel("Held here", table([{title: "Dataset", of: (d) => d.dataset}, {title: "Version", of: (d) => d.version}, {title: "Imported", of: (d) => d.imported || ""},
            {title: "Licence", of: (d) => d.licence || "", className: (d) => d.licence === "valid" ? "good" : "warn"}], own, "This node holds no dataset.")),
        panel("In the federation", table([{title: "Dataset", of: (d) => d.dataset}, {title: "Node", of: (d) => d.node}, {title: "Title", of: (d) => d.title},
            {title: "Licence", of: (d) => d.licence ? d.licence.spdx + ", " + d.licence.state : "none"}, {title: "Permits", of: (d) => d.licence ? (d.licence.permissions || []).join(", ") : ""},
            {title: "Until", of: (d) => d.licence && d.licence.expires ? d.licence.expires.slice(0, 10) : ""}], catalog.datasets || [], "Nothing is published.")),
    ];
}

async function training() {
    const list = await api("train/list");
    const panels = [panel("Jobs", table([{title: "Job", of: (j) => j.job}, {title: "State", of: (j) => j.state, className: (j) => stateClass(j.state)},
        {title: "Round", number: true, of: (j) => j.rounds ? j.round + " / " + j.rounds : ""}, {title: "Name", of: (j) => j.name || ""}], list, "This node coordinates no job."))];
    for (const job of list.slice(-3).reverse()) {
        const shown = await api("train/show/" + encodeURIComponent(job.job));
        const history = shown.history || [];
        panels.push(panel("Loss of " + (job.name || job.job), curve(history.map((r) => ({x: r.round, y: r.eval_loss})), "evaluation loss by round"),
            table([{title: "Site", of: (s) => s.node}, {title: "State", of: (s) => s.state, className: (s) => stateClass(s.state)}, {title: "Reason", of: (s) => s.reason || ""}], shown.sites || [], "")));
    }
    return panels;
}

async function questions() {
    const list = (await api("queries")).slice().reverse();
    return [panel("Asked by this node", table([{title: "Time", className: () => "time", of: (q) => q.time}, {title: "Person", of: (q) => q.person}, {title: "Question", of: (q) => q.sql},
        {title: "State", of: (q) => q.state}, {title: "ε", number: true, of: (q) => q.epsilon}], list.slice(0, 100), "Nothing was asked here."))];
}

async function approvals() {
    const list = await api("approvals");
    return [panel("Waiting for a person", table([{title: "Id", of: (a) => a.approval.slice(0, 12)}, {title: "From", of: (a) => `${a.person} at ${a.institution}`}, {title: "Dataset", of: (a) => a.dataset},
        {title: "What", of: (a) => a.question || a.operations}, {title: "Purpose", of: (a) => a.purpose}, {title: "Why it waits", of: (a) => a.why}, {title: "ε", number: true, of: (a) => a.cost.epsilon},
        {title: "Until", className: () => "time", of: (a) => a.expires}], list, "Nothing waits."), list.length ? note("Decide with `concordat approve ID` or `concordat deny ID --reason TEXT`.") : "")];
}

async function audit() {
    const since = new Date(Date.now() - 7 * 86400000).toISOString().slice(0, 19) + "Z";
    const [entries, egress] = await Promise.all([api("audit/list?since=" + since), api("audit/egress?since=" + since)]);
    const list = entries.slice(-200).reverse();
    const left = egress.slice(-200).reverse();
    return [
        panel("What left this node in seven days", table([{title: "Time", className: () => "time", of: (e) => e.time}, {title: "Peer", of: (e) => e.peer}, {title: "Kind", of: (e) => e.kind}, {title: "Bytes", number: true, of: (e) => e.bytes}, {title: "Id", of: (e) => e.id || ""}], left, "Nothing left.")),
        panel("Entries of the audit chain", table([{title: "No.", number: true, of: (e) => e.seq}, {title: "Time", className: () => "time", of: (e) => e.time}, {title: "Kind", of: (e) => e.kind},
            {title: "What", of: (e) => e.body ? Object.entries(e.body).map(([k, v]) => k + " " + (typeof v === "object" ? JSON.stringify(v) : v)).join(", ") : ""}], list, "No entry.")),
    ];
}

const views = [["Overview", overview], ["Datasets", datasets], ["Training", training], ["Questions", questions], ["Approvals", approvals], ["Audit", audit]];

async function show(index) {
    const [, render] = views[index];
    const view = document.getElementById("view");
    current = index;
    for (const [i, button] of [...document.querySelectorAll("#tabs button")].entries()) {
        i === index ? button.setAttribute("aria-current", "page") : button.removeAttribute("aria-current");
    }
    clearTimeout(timer);
    try {
        const content = await render();
        if (current !== index) {
            return;
        }
        view.replaceChildren(...content);
        document.getElementById("state").textContent = "";
        document.getElementById("refreshed").textContent = "Read at " + new Date().toISOString().slice(11, 19) + " UTC.";
    } catch (fault) {
        document.getElementById("state").textContent = "The node did not answer: " + fault.message;
    }
    timer = setTimeout(() => show(index), REFRESH_MS);
}

function start() {
    const tabs = document.getElementById("tabs");
    tabs.replaceChildren(...views.map(([title], i) => make("button", {type: "button", onclick: () => show(i)}, title)));
    show(0);
}

async function open() {
    const response = await fetchWith("/");
    if (!response.ok) {
        return false;
    }
    const page = new DOMParser().parseFromString(await response.text(), "text/html");
    document.body.replaceWith(document.adoptNode(page.body));
    sessionStorage.setItem("concordat-token", token);
    start();
    return true;
}

function login() {
    const form = document.getElementById("login");
    form.addEventListener("submit", async (event) => {
        event.preventDefault();
        token = document.getElementById("token").value.trim();
        const fault = document.getElementById("login-fault");
        fault.textContent = "";
        try {
            if (!await open()) {
                fault.textContent = "The node does not know this token. It makes a new one at each start.";
            }
        } catch (error) {
            fault.textContent = "The node cannot be reached: " + error.message;
        }
    });
    if (token) {
        open().catch(() => {});
    }
}

login();
