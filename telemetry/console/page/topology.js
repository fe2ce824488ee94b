// Who calls whom, as a picture: callers on the left, and each service right of those that call it. Places follow from names alone, so
// that the picture stays as it is while the numbers change. Phones get lists.
import { h, s, text, attr, show, keyed, mark } from './dom.js';
import { clean, count, rate, share, latency } from './format.js';
import { href } from './route.js';
import { Fetched } from './fetched.js';
import { stateOf } from './model.js';

const BOX = { width: 200, height: 48, gap: 16, left: 24, top: 20 };
const MOST = 60;

export function topology(app) {
	const edgesAt = s('g'), boxes = s('g'), tags = s('g');
	const picture = s('svg', { role: 'group', 'aria-label': 'Topology', preserveAspectRatio: 'xMidYMin meet' }, edgesAt, tags, boxes);
	const map = h('div', { class: 'map' }, picture), lists = h('ul', { class: 'lists routes' });
	const note = h('span', { class: 'faint small' }), empty = h('p', { class: 'empty' });
	const hint = h('p', { class: 'faint small panel-body', hidden: true, text: 'Who calls this process is shown where the program has it counted: see Console.Inbound.' });
	const el = h('div', null,
		h('div', { class: 'head' }, h('h1', { text: 'Topology' }), h('span', { class: 'faint small', text: 'Calls a second within the last 10 s. Wider is more; dashed lines fail.' })),
		h('section', { class: 'panel' }, h('header', null, h('h2', { text: 'Who calls whom' }), note), map, lists, hint, empty));
	const all = new Fetched(app, 'api/topology', 2000);
	let layout = null, shape = '';
	return {
		el,
		title: 'Topology',
		search: 'Search services',
		attach: () => all.start(),
		detach: () => all.stop(),
		update({ query }) {
			const view = all.data;
			show(empty, !view || view.edges.length === 0);
			show(map, Boolean(view?.edges.length));
			text(empty, all.error ? 'The topology could not be read: ' + all.error + '.' : view ? 'No calls yet.' : 'Loading…');
			if (!view) return;
			show(hint, view.edges.length > 0 && !view.nodes.some((n) => n.callers));
			const edges = choose(view, query);
			text(note, edges.length < view.edges.length ? `${count(edges.length)} of ${count(view.edges.length)} edges, those with the most calls` : '');
			const ids = new Set(edges.flatMap((e) => [e.from, e.to]));
			const nodes = view.nodes.filter((n) => ids.has(n.id));
			const stamp = JSON.stringify([nodes.map((n) => n.id), edges.map((e) => e.from + '\n' + e.to)]);
			if (stamp !== shape) {
				shape = stamp;
				layout = place(nodes, edges);
				attr(picture, 'viewBox', `0 0 ${layout.width} ${layout.height}`);
				// A few boxes are not to be blown up to the width of the page.
				picture.style.setProperty('max-width', Math.max(640, layout.width) + 'px');
				picture.style.setProperty('margin', '0 auto');
			}
			draw(nodes, edges, layout, { edgesAt, boxes, tags });
			lines(lists, nodes, edges);
		},
	};
}

function choose(view, query) {
	const names = new Map(view.nodes.map((n) => [n.id, label(n).toLowerCase()]));
	let edges = view.edges;
	if (query) edges = edges.filter((e) => names.get(e.from)?.includes(query) || names.get(e.to)?.includes(query));
	if (edges.length <= MOST) return edges;
	// What comes in is one line or a few, however many go out.
	return [...edges].sort((a, b) => !b.service - !a.service || b.now.rate - a.now.rate || (a.to < b.to ? -1 : 1)).slice(0, MOST);
}

/** label is the name of a node: callers do not say who they are, and have that of the server that they call. */
function label(n) {
	return n.callers ? (n.name ? 'Callers: ' + n.name : 'Callers') : n.name;
}

/** place gives each node a column, one right of the rightmost that calls it, and each column an order by what it is called from. */
export function place(nodes, edges) {
	const level = new Map(nodes.map((n) => [n.id, 0]));
	const into = new Map(nodes.map((n) => [n.id, []]));
	for (const e of edges) if (e.from !== e.to) into.get(e.to)?.push(e.from);
	// Circles end where they began, after as many rounds as there are nodes.
	for (let round = 0, again = true; again && round < Math.min(nodes.length, 12); round++) {
		again = false;
		for (const n of nodes) {
			for (const from of into.get(n.id)) {
				const want = level.get(from) + 1;
				if (want > level.get(n.id) && want < 12) {
					level.set(n.id, want);
					again = true;
				}
			}
		}
	}
	const columns = [];
	for (const n of nodes) (columns[level.get(n.id)] ??= []).push(n);
	const rows = columns.filter(Boolean);
	// Columns that are very long become two and more beside each other.
	const order = new Map();
	const list = [];
	for (const column of rows) {
		const weight = (n) => {
			const f = into.get(n.id).map((id) => order.get(id)).filter((x) => x !== undefined);
			return f.length ? f.reduce((a, b) => a + b, 0) / f.length : 0;
		};
		const sorted = column.map((n) => [weight(n), n.name, n]).sort((a, b) => a[0] - b[0] || (a[1] < b[1] ? -1 : a[1] > b[1] ? 1 : a[2].id < b[2].id ? -1 : 1)).map((x) => x[2]);
		sorted.forEach((n, i) => order.set(n.id, sorted.length > 1 ? i / (sorted.length - 1) : 0.5));
		for (let i = 0; i < sorted.length; i += 30) list.push(sorted.slice(i, i + 30));
	}
	const most = Math.max(1, ...list.map((c) => c.length));
	const pitch = BOX.height + BOX.gap, height = BOX.top * 2 + most * pitch - BOX.gap;
	const spread = list.length > 1 ? Math.max(120, Math.min(260, (1000 - list.length * BOX.width) / (list.length - 1))) : 0;
	const at = new Map();
	list.forEach((column, i) => {
		const top = (height - (column.length * pitch - BOX.gap)) / 2;
		column.forEach((n, k) => at.set(n.id, { x: BOX.left + i * (BOX.width + spread), y: top + k * pitch }));
	});
	return { at, width: BOX.left * 2 + list.length * BOX.width + (list.length - 1) * spread, height };
}

function edgeState(e) {
	return e.now.rate === 0 ? 'off' : e.now.errors >= 0.05 ? 'bad' : e.now.errors >= 0.01 ? 'warn' : 'ok';
}

function draw(nodes, edges, layout, g) {
	const most = Math.max(1, ...edges.map((e) => e.now.rate));
	const known = edges.filter((e) => layout.at.has(e.from) && layout.at.has(e.to));
	const key = (e) => e.from + '\n' + e.to;
	keyed(g.edgesAt, known, key, () => {
		const path = s('path', { class: 'edge' });
		return {
			el: path,
			update(e, { at, most }) {
				attr(path, 'd', curve(at.get(e.from), at.get(e.to)));
				attr(path, 'stroke-width', (1 + 7 * Math.sqrt(e.now.rate / most)).toFixed(1));
				attr(path, 'data-state', edgeState(e));
			},
		};
	}, { at: layout.at, most });
	// A box says what comes in; where several call it, each line does.
	const callers = new Map();
	for (const e of known) callers.set(e.to, (callers.get(e.to) ?? 0) + 1);
	keyed(g.tags, known.filter((e) => callers.get(e.to) > 1 && e.now.rate > 0), key, () => {
		const el = s('text', { class: 'tag', 'text-anchor': 'middle' });
		return {
			el,
			update(e, at) {
				const [x, y] = along(at.get(e.from), at.get(e.to), 0.3);
				attr(el, 'x', Math.round(x));
				attr(el, 'y', Math.round(y) + 4);
				text(el, rate(e.now.rate) + '/s');
			},
		};
	}, layout.at);
	const coming = new Map();
	for (const e of known) {
		const sum = coming.get(e.to) ?? { rate: 0, failed: 0 };
		sum.rate += e.now.rate;
		sum.failed += e.now.rate * e.now.errors;
		coming.set(e.to, sum);
	}
	const going = new Map();
	for (const e of known) going.set(e.from, (going.get(e.from) ?? 0) + e.now.rate);
	keyed(g.boxes, nodes.filter((n) => layout.at.has(n.id)), (n) => n.id, (n) => {
		const name = s('text', { x: 32, y: 20 }), sub = s('text', { class: 'sub', x: 32, y: 37 }), title = s('title'), sign = mark();
		attr(sign.el, 'x', 12);
		attr(sign.el, 'y', 10);
		const a = s('a', { class: 'box' }, title, s('rect', { width: BOX.width, height: BOX.height, rx: 8 }), sign.el, name, sub);
		if (n.service) a.setAttribute('href', href('service', n.service === true ? n.name : n.service));
		return {
			el: a,
			update(m, now) {
				const p = now.at.get(m.id), c = now.coming.get(m.id), out = now.going.get(m.id);
				attr(a, 'transform', `translate(${p.x} ${p.y})`);
				const state = m.service ? stateOf(m.status) : 'off';
				attr(a, 'data-state', state);
				sign.set(m.service ? state : 'half');
				text(name, clean(label(m), 22));
				const where = m.zone ? clean(m.zone, 16) : m.zones?.length > 1 ? m.zones.length + ' zones' : '';
				const numbers = [c && `${rate(c.rate)}/s in`, (out !== undefined || !c) && `${rate(out ?? 0)}/s out`].filter(Boolean).join(', ');
				text(sub, [numbers, c && c.rate > 0 && c.failed / c.rate >= 0.01 ? share(c.failed / c.rate) + ' failed' : c && out !== undefined ? '' : m.service && state !== 'ok' ? clean(m.status, 20) : '', where].filter(Boolean).slice(0, 3).join(' · '));
				text(title, clean(label(m), 200) + ' \u2013 ' + (m.service ? clean(m.status, 40) : 'calls'));
			},
		};
	}, { at: layout.at, coming, going });
}

/** along is the point of a curve after a part t of it, counted from its end. */
function along(a, b, t) {
	const x1 = a.x + BOX.width, y1 = a.y + BOX.height / 2, x2 = b.x, y2 = b.y + BOX.height / 2, m = (x1 + x2) / 2;
	const u = 1 - t, p = (p0, p1, p2, p3) => t * t * t * p0 + 3 * t * t * u * p1 + 3 * t * u * u * p2 + u * u * u * p3;
	return [p(x1, m, m, x2), p(y1, y1, y2, y2)];
}

function curve(a, b) {
	const x1 = a.x + BOX.width, y1 = a.y + BOX.height / 2, x2 = b.x, y2 = b.y + BOX.height / 2;
	if (x2 > x1) {
		const m = (x1 + x2) / 2;
		return `M${x1} ${y1}C${m} ${y1} ${m} ${y2} ${x2} ${y2}`;
	}
	// Back to an earlier column, or to itself: around below.
	const low = Math.max(y1, y2) + BOX.height;
	return `M${x1} ${y1}C${x1 + 60} ${low} ${x2 - 60} ${low} ${x2} ${y2}`;
}

function lines(list, nodes, edges) {
	const names = new Map(nodes.map((n) => [n.id, label(n)]));
	const sorted = [...edges].sort((a, b) => (a.from + a.to < b.from + b.to ? -1 : 1));
	keyed(list, sorted, (e) => e.from + '\n' + e.to, () => {
		const sign = mark(), from = h('bdi', { class: 'name' }), to = h('a', { class: 'name' }), note = h('span', { class: 'faint small' });
		return {
			el: h('li', null, h('div', { class: 'route-line' }, sign.el, from, '→', to), note),
			update(e, called) {
				sign.set(edgeState(e));
				text(from, clean(called.get(e.from) ?? '', 60));
				text(to, clean(e.service || called.get(e.to) || '', 60));
				attr(to, 'href', e.service ? href('service', e.service, { mesh: e.mesh }) : null);
				text(note, `${rate(e.now.rate)} calls/s, ${share(e.now.errors)} failed` + (e.service ? `, p99 ${latency(e.now.p99 || NaN)}` : ''));
			},
		};
	}, names);
}
