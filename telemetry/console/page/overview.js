// All services at a glance.
import { h, text, attr, show, status } from './dom.js';
import { clean, count, rate, share, latency, countdown, plural } from './format.js';
import { sparkline, figure } from './charts.js';
import { Table, plain } from './table.js';
import { href } from './route.js';
import { Fetched } from './fetched.js';

export function overview(app) {
	const to = (s) => href('service', s.service, { mesh: app.model.meshes.length > 1 ? s.mesh : '' });
	const figures = {
		rate: figure('Calls a second'), errors: figure('Failed'), slow: figure('Slowest p99'), out: figure('Endpoints in service'),
		breakers: figure('Services broken off'), budget: figure('Lowest retry budget'),
	};
	const strip = h('div', { class: 'figures', role: 'group', 'aria-label': 'All services' }, ...Object.values(figures).map((f) => f.el));
	const table = new Table({
		label: 'Services',
		className: 'services',
		key: (s) => s.key,
		open: (s) => app.go(to(s)),
		sort: { key: 'name', down: false },
		empty: 'No service.',
		columns: columns(to),
	});
	const title = h('h2', { text: 'Services' }), found = h('span', { class: 'faint small' });
	const only = h('select', { 'aria-label': 'Which services', onchange: () => app.refresh() },
		h('option', { value: '', text: 'All services' }),
		h('option', { value: 'trouble', text: 'With trouble' }),
		h('option', { value: 'busy', text: 'With calls' }));
	const panel = h('section', { class: 'panel' }, h('header', null, title, found, h('span', { class: 'grow' }), only), table.el);
	const el = h('div', null, h('h1', { class: 'away', text: 'Overview' }), strip, panel);
	const sparks = new Fetched(app, 'api/summary', 5000);
	let taken = null;
	return {
		el,
		title: 'Services',
		attach() {
			table.attach();
			sparks.start();
		},
		detach() {
			table.detach();
			sparks.stop();
		},
		update({ model, query }) {
			if (sparks.data && sparks.data !== taken && model.services.length) model.sparks(taken = sparks.data);
			let list = model.services;
			if (query) list = list.filter((s) => s.find.includes(query));
			if (only.value === 'trouble') list = list.filter((s) => s.state === 'bad' || s.state === 'warn');
			if (only.value === 'busy') list = list.filter((s) => s.rate > 0);
			table.set(list, model.now);
			text(found, list.length === model.services.length ? count(list.length) : `${count(list.length)} of ${count(model.services.length)}`);
			totals(figures, model);
		},
	};
}

function totals(f, model) {
	let calls = 0, failed = 0, slow = null, all = 0, out = 0, open = 0, breakers = 0, low = null, paused = 0, panic = 0;
	for (const s of model.services) {
		calls += s.rate;
		failed += s.rate * s.errors;
		all += s.endpoints;
		out += s.out;
		open += isOpen(s) ? 1 : 0;
		breakers += s.breaker ? 1 : 0;
		if (s.p99 > 0 && (!slow || s.p99 > slow.p99)) slow = s;
		if (s.budget >= 0 && (!low || s.budget < low.budget)) low = s;
		if (s.pausedUntil) paused++;
		if (s.panicking) panic++;
	}
	const errors = calls > 0 ? failed / calls : 0;
	f.rate.set(rate(calls), plural(model.services.length, 'service'));
	f.errors.set(share(errors), calls > 0 ? rate(failed) + ' a second' : 'no calls', errors >= 0.05 ? 'bad' : errors >= 0.01 ? 'warn' : '');
	f.slow.set(slow ? latency(slow.p99) : '\u2013', slow ? clean(slow.service, 40) : '');
	f.out.set(`${count(all - out)} of ${count(all)}`, panic ? plural(panic, 'service') + ' in panic' : out ? `${count(out)} out of service` : 'all of them', panic ? 'bad' : out ? 'warn' : '');
	f.breakers.set(count(open), breakers ? `of ${plural(breakers, 'breaker')}` : 'no breakers set', open ? 'bad' : '');
	f.budget.set(low ? share(low.budget) : '\u2013', paused ? `paused for ${plural(paused, 'service')}` : low && low.budget < 1 ? clean(low.service, 40) : low ? 'all full' : 'none', low && low.budget < 0.25 ? 'bad' : low && low.budget < 0.5 || paused ? 'warn' : '');
}

function columns(to) {
	return [
		{ key: 'name', label: 'Service', sort: (s) => s.service, header: true, cell: () => nameCell(to) },
		{ key: 'rate', label: 'Calls/s', align: 'num', first: 'desc', sort: (s) => s.rate, cell: plain((s) => rate(s.rate)) },
		{
			key: 'errors', label: 'Failed', align: 'num', first: 'desc', sort: (s) => (s.rate > 0 ? s.errors : -1),
			cell: plain((s) => (s.rate > 0 ? share(s.errors) : '\u2013'), (s) => (s.errors >= 0.05 ? 'bad' : s.errors >= 0.01 ? 'warn' : 'faint')),
		},
		{ key: 'p50', label: 'p50', align: 'num', first: 'desc', sort: (s) => s.p50, cell: plain((s) => latency(s.p50 || NaN)) },
		{ key: 'p99', label: 'p99', align: 'num', first: 'desc', sort: (s) => s.p99, cell: plain((s) => latency(s.p99 || NaN)) },
		{
			key: 'spark', label: 'Last minutes', title: 'Calls a second; failed ones at the foot',
			cell() {
				const line = sparkline(120, 22, 'calls a second over the last minutes');
				return { el: line.el, set: (s) => line.set(s.spark, s.sparkErrors) };
			},
		},
		{ key: 'endpoints', label: 'Endpoints', first: 'desc', sort: (s) => s.endpoints, cell: endpointsCell },
		{ key: 'breaker', label: 'Breaker', first: 'desc', sort: (s) => (isOpen(s) ? 2 : s.breaker ? 1 : 0), cell: breakerCell },
		{
			key: 'budget', label: 'Retry budget', align: 'num', sort: (s) => (s.budget < 0 ? 2 : s.budget),
			cell: plain((s, now) => (s.pausedUntil > now ? 'paused' : s.budget < 0 ? 'none' : share(s.budget)),
				(s, now) => (s.pausedUntil > now ? 'warn' : s.budget >= 0 && s.budget < 0.25 ? 'bad' : s.budget >= 0 && s.budget < 0.5 ? 'warn' : s.budget < 0 ? 'faint' : '')),
		},
	];
}

function nameCell(to) {
	const sign = status(), link = h('a', { class: 'name clip' }), why = h('span', { class: 'clip' });
	const words = h('span', { class: 'two' }, link, why);
	const el = h('span', { class: 'status' }, sign.el.firstChild, words);
	return {
		el,
		set(s) {
			sign.set(s.state);
			text(link, s.shown);
			attr(link, 'href', to(s));
			text(why, s.why);
			show(why, s.why !== '');
		},
	};
}

function isOpen(s) {
	return s.breaker === 'open' || s.breaker === 'forced-open';
}

function endpointsCell() {
	const a = h('span'), b = h('span'), el = h('span', { class: 'two' }, a, b);
	return {
		el,
		set(s) {
			text(a, s.endpoints ? `${count(s.inService)} of ${count(s.endpoints)}` : 'none');
			a.dataset.state = s.endpoints && s.inService === s.endpoints ? '' : s.inService === 0 ? 'bad' : 'warn';
			text(b, s.panicking ? 'panic: all get calls' : s.out ? `${count(s.out)} out` : '');
			show(b, b.textContent !== '');
		},
	};
}

function breakerCell() {
	const sign = status();
	return {
		el: sign.el,
		set(s, now) {
			if (s.breaker === 'open') sign.set('bad', s.probeAt ? `open, probe ${inWords(s.probeAt - now)}` : 'open');
			else if (s.breaker === 'forced-open') sign.set('bad', 'forced open');
			else if (s.breaker === 'half-open') sign.set('half', 'half-open');
			else if (s.breaker === 'closed') sign.set('ok', 'closed');
			else sign.set('off', s.breaker ? clean(s.breaker, 30) : 'none');
		},
	};
}

function inWords(ms) {
	return ms > 0 ? 'in ' + countdown(ms) : 'now';
}
