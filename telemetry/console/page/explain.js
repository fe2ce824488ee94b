// Why a call ended as it did: where it was routed, what was picked from, what became of the attempts, and what ended them.
import { h, text, attr, show, prop, mark } from './dom.js';
import { clean, clock, count, latency, share, stamp } from './format.js';
import { href } from './route.js';

// Envoy's letters in words.
const FLAGS = {
	UH: 'no endpoint that the call could go to', UF: 'could not connect', UO: 'refused by a limit or a breaker', UT: 'took too long',
	UR: 'reset by the endpoint', UC: 'connection ended amid the exchange', URX: 'attempts or retry budget used up', NR: 'no route', NC: 'no such service',
	RL: 'rate limited', DI: 'delay injected', FI: 'fault injected', DC: 'the caller cancelled', DT: 'the deadline passed', UPE: 'protocol error',
	OM: 'shed', LR: 'given up by the client', US: 'the endpoint answered with a failure',
};

/** flagWords says what a flag means. */
export function flagWords(flag) {
	return FLAGS[flag] ?? '';
}

/** failureItem is a line that unfolds; named says that the name of the service is shown. */
export function failureItem(f, named = true, opened = false) {
	const what = f.reason || f.error || FLAGS[f.flag] || 'explained on request';
	const tries = f.tries?.length ?? 0;
	const turn = h('span', { class: 'turn', 'aria-hidden': 'true' });
	const button = h('button', { type: 'button', 'aria-expanded': 'false', onclick: () => toggle() },
		turn,
		h('span', { class: 'faint small', text: clock(f.at), title: stamp(f.at) }),
		h('span', null, h('span', { class: 'flag', title: FLAGS[f.flag] ?? '', text: f.flag ? clean(f.flag, 5) : 'OK' })),
		h('span', null, h('bdi', { class: 'name', text: named ? clean(f.service, 80) : clean(f.method || f.protocol || 'call', 80) })),
		h('span', null, h('bdi', { text: (named && f.method ? clean(f.method, 60) + ' · ' : '') + clean(what, 160) + (f.status > 0 ? ' · ' + f.status : '') + (tries ? ` · ${tries} attempt${tries > 1 ? 's' : ''}` : ' · no attempt') })),
		h('span', { class: 'num', text: latency(f.duration) }));
	const el = h('div', { class: 'fail' }, button);
	let steps = null;
	function toggle(force) {
		const open = force ?? button.getAttribute('aria-expanded') !== 'true';
		attr(button, 'aria-expanded', String(open));
		if (open && !steps) el.append(steps = explanation(f));
		if (steps) show(steps, open);
	}
	if (opened) toggle(true);
	return { el, toggle };
}

function step(title, ...children) {
	return h('section', { class: 'step' }, h('h3', { text: title }), ...children);
}

function say(...parts) {
	return h('p', null, ...parts);
}

function b(value, max) {
	return h('bdi', { class: 'name mono', text: clean(value, max) });
}

/** explanation is the whole record of a call. */
export function explanation(f) {
	const el = h('div', { class: 'steps' });
	const routed = say((f.protocol ? clean(f.protocol, 20).toUpperCase() : 'Call') + ' ', f.method ? b(f.method, 200) : '', ' to ', b(f.host || f.service, 200), ' ');
	if (f.route) routed.append('fitted the route ', b(f.route, 120), ' and went ');
	else routed.append('fitted no route and went ');
	routed.append('to the service ', b(f.service, 200), f.lane ? ' in the lane ' : '', f.lane ? b(f.lane, 80) : '', '.');
	el.append(step('Route', routed));
	const tries = f.tries ?? [];
	tries.forEach((t, i) => el.append(picked(t, i, tries.length)));
	for (const r of f.refusals ?? []) {
		el.append(step(r.enforced ? 'Refused' : 'Would have been refused',
			say(`${clean(r.stage, 60)} ${r.enforced ? 'refused' : 'would have refused'} ${r.attempt >= 0 ? `attempt ${r.attempt + 1}` : 'the call'}`, r.after > 0 ? ` and asked to wait for ${latency(r.after)}.` : '.')));
	}
	if (tries.length) el.append(step(tries.length > 1 ? `${tries.length} attempts` : 'The attempt', gantt(f, tries)));
	el.append(ended(f));
	return el;
}

function picked(t, i, n) {
	const s = step(n > 1 ? `Pick for attempt ${i + 1}` : 'Pick');
	const out = (t.removed ?? []).reduce((sum, r) => sum + r.count, 0);
	if (t.nodes > 0) {
		s.append(say(`${count(t.nodes)} endpoint${t.nodes > 1 ? 's' : ''}${out ? `, ${count(Math.max(0, t.nodes - out))} of them candidates.` : ', all of them candidates.'} `, t.pick ? 'Picked: ' + clean(t.pick, 200) + '.' : ''));
	} else s.append(say(t.pick ? clean(t.pick, 200) + '.' : t.addr ? 'Not recorded.' : 'There was no endpoint to pick from.'));
	if (out) s.append(h('p', { class: 'removed' }, ...t.removed.map((r) => h('span', { class: 'chip', text: `${count(r.count)} ${clean(r.why, 80)}` }))));
	const list = t.compared ?? [];
	if (list.length) {
		const scored = list.some((c) => c.score > 0);
		const body = h('tbody');
		for (const c of list) {
			const row = h('tr', { 'data-picked': Boolean(c.picked) },
				h('td', null, h('span', { class: 'status' }, mark(c.picked ? 'ok' : c.removed ? 'bad' : 'off').el, h('span', null, b(c.addr, 100)))),
				h('td', { class: 'faint', text: c.zone ? clean(c.zone, 40) : '\u2013' }),
				scored ? h('td', { class: 'num', text: score(c.score) }) : null,
				h('td', { class: 'num', text: latency(c.cost || NaN) }),
				h('td', { class: 'num', text: count(c.inFlight) }),
				h('td', { text: c.picked ? 'picked' : c.removed ? clean(c.removed, 60) : 'passed over' }));
			body.append(row);
		}
		s.append(h('div', { class: 'scroll-x' }, h('table', { class: 'compare', 'aria-label': 'Endpoints compared' },
			h('thead', null, h('tr', null, ...[['Compared'], ['Zone'], scored ? ['Score', 'num', 'the least wins'] : null, ['Latency', 'num'], ['In flight', 'num'], ['']].filter(Boolean)
				.map(([label, cls, title]) => h('th', { scope: 'col', class: cls, title, text: label })))), body)));
	}
	return s;
}

function score(x) {
	return x >= 100 ? count(x) : Number(x.toPrecision(3)).toString();
}

function gantt(f, tries) {
	const end = Math.max(f.duration, ...tries.map((t) => t.start + t.latency), 0.001);
	const el = h('div', { class: 'gantt' });
	tries.forEach((t, i) => {
		const good = t.outcome === 'success' && !t.running;
		const bar = h('i', { 'data-state': t.running ? 'open' : good ? 'ok' : 'bad' });
		prop(bar, 'left', (t.start / end * 100).toFixed(2) + '%');
		prop(bar, 'width', Math.max(0.4, Math.min(100, (t.running ? end - t.start : t.latency) / end * 100)).toFixed(2) + '%');
		const result = t.running ? 'given up' : t.status > 0 ? String(t.status) : t.error ? clean(t.error, 80) : clean(t.outcome, 30);
		el.append(h('div', { class: 'gantt-row' },
			h('span', { title: clean(t.addr ?? '', 600) }, `${i + 1} ${clean(t.cause, 12)} `, b(t.addr || 'no endpoint', 60)),
			h('span', { class: 'track', role: 'img', 'aria-label': `from ${latency(t.start)} to ${latency(t.start + t.latency)}` }, bar),
			h('span', { title: t.error ? clean(t.error, 600) : '' }, `${latency(t.latency)} · ${t.flag ? clean(t.flag, 5) + ' · ' : ''}${result}`)));
	});
	el.append(h('div', { class: 'gantt-row gantt-foot' }, h('span'), h('span', { class: 'gantt-axis' }, h('span', { text: '0' }), h('span', { text: latency(end) })), h('span')));
	return el;
}

function ended(f) {
	const s = step('Why it ended');
	const words = [f.reason, f.detail && f.detail !== f.reason ? f.detail : ''].filter(Boolean).map((w) => clean(w, 120)).join(': ');
	s.append(say(f.flag ? h('span', { class: 'flag', text: clean(f.flag, 5) }) : '', f.flag ? ` ${FLAGS[f.flag] ?? ''}. ` : '', words ? sentence(words) : f.failed ? '' : 'The call succeeded.'));
	if (f.error) s.append(say(h('span', { class: 'faint', text: 'Error: ' }), b(f.error, 600)));
	const facts = [['Took', latency(f.duration)], ['Status', f.status >= 0 ? String(f.status) : 'no answer']];
	if (f.budget >= 0) facts.push(['Retry budget then', share(f.budget)]);
	if (f.left > 0) facts.push(['Time left', latency(f.left)]);
	s.append(h('p', { class: 'removed' }, ...facts.map(([k, v]) => h('span', { class: 'chip', text: k + ' ' + v }))));
	if (f.text) s.append(h('details', null, h('summary', { text: 'As text' }), h('pre', { class: 'scroll-x', text: f.text.split('\n').slice(0, 200).map((l) => clean(l, 1000)).join('\n') })));
	s.append(h('p', { class: 'small' }, h('a', { href: href('failures', '', { id: f.id }), text: 'Link to this call' }), ' · ', h('a', { href: href('service', f.service, { mesh: f.mesh }), text: 'Service' }), h('span', { class: 'faint', text: ' · ' + stamp(f.at) })));
	return s;
}

function sentence(s) {
	return s.charAt(0).toUpperCase() + s.slice(1) + (/[.!?]$/.test(s) ? '' : '.');
}
