// One service: its endpoints, routes, source, policy, and what went wrong of late.
import { h, text, attr, show, status, keyed } from './dom.js';
import { clean, count, rate, share, latency, span, countdown, plural } from './format.js';
import { sparkline, meter, figure } from './charts.js';
import { Table, plain } from './table.js';
import { href } from './route.js';
import { keyOf } from './model.js';
import { Fetched } from './fetched.js';
import { get, query as params } from './stream.js';
import { failureItem } from './explain.js';
import { eventItem } from './event.js';
import { routeList } from './routes.js';
import { policyTable } from './fields.js';
import { actions } from './admin.js';

const FEW = 8;

export function service(app, route) {
	const name = route.about, mesh = route.filters.mesh ?? '';
	const sign = status(), title = h('h1', null, h('bdi', { class: 'name', text: clean(name) }));
	const chips = h('span', { class: 'legend' }), buttons = h('span', { class: 'filters' });
	const figures = {
		rate: figure('Calls a second'), errors: figure('Failed'), latency: figure('p50 / p99', true), flight: figure('In flight'),
		endpoints: figure('Endpoints in service'), budget: figure('Retry budget'), breaker: figure('Breaker of the service'), source: figure('Discovery'),
	};
	const strip = h('div', { class: 'figures', role: 'group', 'aria-label': 'The service' }, ...Object.values(figures).map((f) => f.el));
	const trend = sparkline(600, 44, 'calls a second, failures at the foot');
	trend.el.classList.add('trend');
	const slow = sparkline(600, 44, 'p99 of the calls');
	slow.el.classList.add('trend');
	const top = h('span', { class: 'faint small' }), slowTop = h('span', { class: 'faint small' });
	const trends = h('div', { class: 'columns trends' },
		h('figure', { class: 'panel panel-body' }, h('figcaption', { class: 'trend-head' }, h('h3', { text: 'Calls a second' }), top), trend.el),
		h('figure', { class: 'panel panel-body' }, h('figcaption', { class: 'trend-head' }, h('h3', { text: 'p99' }), slowTop), slow.el));
	let target = { mesh, service: name };
	const act = actions(app, () => target);
	const table = new Table({
		label: 'Endpoints', className: 'endpoints', key: (e) => e.addr, sort: { key: 'addr', down: false }, empty: 'No endpoints.', columns: columns(act),
	});
	const found = h('span', { class: 'faint small' });
	const endpoints = h('section', { class: 'panel' }, h('header', null, h('h2', { text: 'Endpoints' }), found), table.el);

	const rules = routeList(name), noRoutes = h('p', { class: 'empty', text: 'No rule: calls go straight to the service.' });
	const routes = h('section', { class: 'panel' }, h('header', null, h('h2', { text: 'Routes' })), rules.el, noRoutes);
	const failList = h('div'), noFails = h('p', { class: 'empty', text: 'No failed call is kept.' });
	const fails = h('section', { class: 'panel' }, h('header', null, h('h2', { text: 'Recent failures' }), h('span', { class: 'grow' }),
		h('a', { class: 'small', href: href('failures', '', { service: name }), text: 'All' })), failList, noFails);
	const eventList = h('ul', { class: 'events' }), noEvents = h('p', { class: 'empty', text: 'Nothing has happened yet.' });
	const events = h('section', { class: 'panel' }, h('header', null, h('h2', { text: 'Timeline' }), h('span', { class: 'grow' }),
		h('a', { class: 'small', href: href('timeline', '', { service: name }), text: 'All' })), eventList, noEvents);
	const fields = policyTable({ own: true });
	const settings = h('section', { class: 'panel' }, h('header', null, h('h2', { text: 'Policy' }), fields.note, h('span', { class: 'grow' }),
		h('a', { class: 'small', href: href('policy', name, { mesh }), text: 'All values' })), fields.el);
	const zoneList = h('ul', { class: 'zones' });
	const zones = h('section', { class: 'panel', hidden: true }, h('header', null, h('h2', { text: 'Zones' })), zoneList);

	const missing = h('p', { class: 'empty' });
	const body = h('div', null, strip, trends, endpoints, h('div', { class: 'columns' }, h('div', null, fails, events), h('div', null, routes, zones, settings)));
	const el = h('div', null,
		h('p', { class: 'crumb' }, h('a', { href: '#/', text: 'Services' })),
		h('div', { class: 'head' }, title, sign.el, chips, h('span', { class: 'grow' }), buttons), missing, body);

	const asked = params({ service: name, mesh });
	const routing = new Fetched(app, 'api/routes' + asked, 3000);
	const policy = new Fetched(app, 'api/policy' + asked, 30000);
	return {
		el,
		title: name,
		search: 'Search endpoints',
		attach() {
			table.attach();
			routing.start();
			policy.start();
			// The stream begins with the latest of all services: those of this one may be older.
			for (const kind of ['failures', 'events']) get(`api/${kind}` + params({ service: name, mesh, limit: FEW })).then((v) => app.hear(kind, v), () => {});
		},
		detach() {
			table.detach();
			routing.stop();
			policy.stop();
		},
		update({ model, query }) {
			const s = model.find(mesh, name);
			const d = s && model.details?.key === s.key ? model.details : null;
			show(body, Boolean(s));
			show(missing, !s);
			text(missing, model.time ? 'There is no service of this name now.' : 'Loading…');
			if (!s) return;
			target = { mesh: s.mesh, service: name };
			headline(s, model);
			numbers(figures, s, d, model.now);
			const history = d?.history;
			trend.set(history?.rate ?? s.spark, history?.errors ?? s.sparkErrors);
			text(top, 'at most ' + rate(peak(history?.rate ?? s.spark)));
			slow.set(history?.p99 ?? []);
			text(slowTop, history ? 'at most ' + latency(peak(history.p99) || NaN) : '');
			let list = d?.endpoints ?? [];
			if (query) list = list.filter((e) => e.find.includes(query));
			if (d) table.set(list, model.now);
			else table.empty.textContent = 'Loading…';
			if (d) text(table.empty, query ? 'No endpoint fits the search.' : 'No endpoints.');
			text(found, d ? (list.length < d.total ? `${count(list.length)} of ${count(d.total)}` : count(d.total)) + (s.leftOut ? ` · ${count(s.leftOut)} left to other clients` : '') : '');
			const rs = routing.data?.routes ?? [];
			rules.set(rs);
			show(noRoutes, rs.length === 0);
			const same = (e) => e.service === name && e.mesh === s.mesh;
			const lately = take(model.failures, same, FEW);
			keyed(failList, lately, (f) => f.id, (f) => failureItem(f, false));
			show(noFails, lately.length === 0);
			const happened = take(model.events, same, FEW);
			keyed(eventList, happened, (e) => e.id, () => eventItem(false));
			show(noEvents, happened.length === 0);
			eventList.kept.forEach((item, id) => item.tick?.(model.now, id));
			const z = d?.zones ?? [];
			show(zones, z.length > 1);
			keyed(zoneList, z, (x) => x.zone, zoneItem);
			fields.set(policy.data, policy.error, query);
			act.show(buttons, s);
			attr(table.table, 'data-acts', model.admin !== '');
		},
	};

	function headline(s, model) {
		sign.set(s.state, s.why && s.why !== s.status ? clean(s.status, 40) + ' · ' + s.why : clean(s.status, 40));
		const list = [s.balance];
		if (model.meshes.length > 1) list.push('mesh ' + clean(model.meshes.find((m) => m.mesh === s.mesh)?.name ?? s.mesh, 60));
		if (s.panicking) list.push('panic: ejections do not count');
		if (s.throttle > 0) list.push(share(s.throttle) + ' throttled');
		if (s.retries > 0) list.push(rate(s.retries) + ' retries/s');
		if (s.backups > 0) list.push(rate(s.backups) + ' backups/s');
		if (s.refused > 0) list.push(rate(s.refused) + ' refused/s');
		keyed(chips, list, (c) => c, (c) => ({ el: h('span', { class: 'chip', text: clean(c, 60) }) }));
	}
}

function peak(list) {
	return (list ?? []).reduce((a, b) => Math.max(a, b), 0);
}

function take(list, fits, n) {
	const found = [];
	for (const item of list) {
		if (fits(item)) found.push(item);
		if (found.length === n) break;
	}
	return found;
}

function numbers(f, s, d, now) {
	const t = s.now;
	f.rate.set(rate(t.rate), s.attempts > t.rate * 1.005 ? rate(s.attempts) + ' attempts' : count(s.calls) + ' since start');
	f.errors.set(t.rate > 0 ? share(t.errors) : '\u2013', `${share(s.minute.errors)} in a minute`, t.errors >= 0.05 ? 'bad' : t.errors >= 0.01 ? 'warn' : '');
	f.latency.set(latency(t.p50 || NaN) + ' / ' + latency(t.p99 || NaN), `minute: ${latency(s.minute.p50 || NaN)} / ${latency(s.minute.p99 || NaN)}`);
	const limit = d?.limit;
	f.flight.set(count(s.inFlight), limit ? `calls: ${count(limit.inFlight)} of ${count(limit.limit)}` + (limit.queued ? `, ${count(limit.queued)} wait` : '') : 'attempts', limit?.queued ? 'warn' : '');
	f.endpoints.set(`${count(s.inService)} of ${count(s.endpoints)}`, s.panicking ? 'panic: all get calls' : s.out ? plural(s.out, 'is', 'are') + ' out' : 'all in service', s.inService === 0 ? 'bad' : s.out ? 'warn' : '');
	const paused = s.pausedUntil > now;
	f.budget.set(paused ? 'Paused' : s.budget < 0 ? 'None' : share(s.budget), paused ? 'for ' + countdown(s.pausedUntil - now) : s.budget < 0 ? 'nothing limits retries' : s.budget < 0.5 ? 'retries are refused' : 'of what it holds', paused || s.budget >= 0 && s.budget < 0.5 ? 'warn' : '');
	const words = { open: 'Open', 'half-open': 'Half-open', closed: 'Closed', 'forced-open': 'Forced open', disabled: 'Disabled', 'metrics-only': 'Observes' };
	f.breaker.set(words[s.breaker] ?? (s.breaker ? clean(s.breaker, 30) : 'None'),
		s.forcedUntil > now ? `by an operator for ${countdown(s.forcedUntil - now)}` : s.breaker === 'open' ? 'probe ' + (s.probeAt > now ? 'in ' + countdown(s.probeAt - now) : 'now') : '',
		/open$/.test(s.breaker ?? '') && s.breaker !== 'half-open' ? 'bad' : s.forcedUntil > now ? 'warn' : '');
	const x = d?.discovery;
	if (!x) f.source.set('\u2013');
	else if (!x.known) f.source.set('Silent', x.error ? clean(x.error, 80) : 'has not answered yet', 'bad');
	else if (x.age > 0) f.source.set('Stale', `not heard for ${span(x.age)}` + (x.error ? ': ' + clean(x.error, 80) : ''), 'warn');
	else f.source.set('Current', x.changed >= 0 ? `changed ${span(x.changed)} ago` : 'never changed', '');
}

function zoneItem() {
	const zone = h('bdi'), note = h('span', { class: 'faint' });
	return {
		el: h('li', null, zone, note),
		update(z) {
			text(zone, z.zone ? clean(z.zone, 60) : 'no zone');
			text(note, `${count(z.endpoints - z.out)} of ${count(z.endpoints)} in service, ${rate(z.rate)} attempts/s`);
		},
	};
}

function columns(act) {
	return [
		{ key: 'addr', label: 'Endpoint', header: true, sort: (e) => e.addr, cell: addrCell },
		{ key: 'health', label: 'Health', first: 'desc', sort: (e) => ({ bad: 2, warn: 1 }[e.state] ?? 0), cell: healthCell },
		{ key: 'share', label: 'Share of traffic', title: 'What it gets of the attempts; the tick is what it is meant to get', first: 'desc', sort: (e) => e.got, cell: shareCell },
		{ key: 'rate', label: 'Attempts/s', align: 'num', first: 'desc', sort: (e) => e.now.rate, cell: plain((e) => rate(e.now.rate)) },
		{
			key: 'errors', label: 'Failed', align: 'num', first: 'desc', sort: (e) => (e.now.rate > 0 ? e.now.errors : -1),
			cell: plain((e) => (e.now.rate > 0 ? share(e.now.errors) : '\u2013'), (e) => (e.now.errors >= 0.05 ? 'bad' : e.now.errors >= 0.01 ? 'warn' : 'faint')),
		},
		{ key: 'p50', label: 'p50', align: 'num', first: 'desc', sort: (e) => e.now.p50, cell: plain((e) => latency(e.now.p50 || NaN)) },
		{ key: 'p99', label: 'p99', align: 'num', first: 'desc', sort: (e) => e.now.p99, cell: plain((e) => latency(e.now.p99 || NaN)) },
		{
			key: 'spark', label: 'Latency',  title: 'p50 over the last minutes; failures at the foot',
			cell() {
				const line = sparkline(110, 22, 'latency over the last minutes');
				return { el: line.el, set: (e) => line.set(e.history?.p50, e.history?.errors) };
			},
		},
		{ key: 'flight', label: 'In flight', align: 'num', first: 'desc', sort: (e) => e.inFlight, cell: plain((e) => (e.limit ? `${count(e.inFlight)} of ${count(e.limit)}` : count(e.inFlight))) },
		{ key: 'act', label: '', cell: () => act.cell() },
	];
}

function addrCell() {
	const addr = h('bdi', { class: 'mono' }), note = h('span');
	return {
		el: h('span', { class: 'two' }, addr, note),
		set(e, now, td) {
			text(addr, e.shown);
			const why = e.socket?.why ? '\nUnix socket: ' + clean(e.socket.why, 300) : '';
			attr(td, 'title', clean(e.addr, 600) + why + (e.meta ?? []).map((p) => '\n' + clean(p.name, 100) + ' = ' + clean(p.value, 200)).join(''));
			const list = [];
			if (e.zone) list.push(clean(e.zone, 60));
			if (e.priority) list.push('priority ' + e.priority);
			if (e.weight > 1) list.push('weight ' + e.weight);
			if (e.slowStart < 1) list.push('warming up ' + share(e.slowStart));
			if (e.socket) list.push({ used: 'over its Unix socket', failing: 'Unix socket fails' }[e.socket.state] ?? 'Unix socket not used yet');
			text(note, list.join(' · '));
			show(note, list.length > 0);
		},
	};
}

const HEALTH = { ok: 'In service', degraded: 'Degraded', ejected: 'Ejected', 'failing checks': 'Failing checks', 'breaker open': 'Breaker open', unhealthy: 'Unhealthy', 'taken out': 'Taken out', draining: 'Draining' };

function healthCell() {
	const sign = status(), words = h('span'), why = h('span');
	const el = h('span', { class: 'status' }, sign.el.firstChild, h('span', { class: 'two' }, words, why));
	return {
		el,
		set(e, now, td) {
			const half = e.breaker === 'half-open' && e.state === 'ok';
			sign.set(half ? 'half' : e.status === 'taken out' || e.status === 'draining' ? 'info' : e.state);
			let s = half ? 'Breaker half-open' : HEALTH[e.status] ?? clean(e.status, 40);
			if (e.backAt > 0) s += e.backAt > now ? ', back in ' + countdown(e.backAt - now) : ', back now';
			else if (e.probeAt > 0) s += e.probeAt > now ? ', probe in ' + countdown(e.probeAt - now) : ', probe due';
			text(words, s);
			words.dataset.state = e.state === 'bad' ? 'bad' : e.state === 'warn' ? 'warn' : '';
			text(why, e.why ? clean(e.why, 200) : '');
			show(why, Boolean(e.why));
			attr(td, 'title', e.why ? clean(e.why, 600) : null);
		},
	};
}

function shareCell() {
	const m = meter(), words = h('span'), el = h('span', { class: 'metered' }, m.el, words);
	return {
		el,
		set(e, now, td) {
			m.set(e.got, e.share);
			text(words, share(e.got));
			attr(td, 'title', `gets ${share(e.got)}, is meant to get ${share(e.share)}; ${count(e.picks)} picks`);
		},
	};
}
