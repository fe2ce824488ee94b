// A line of the timeline.
import { h, text, attr, show, mark } from './dom.js';
import { clean, clock, stamp, countdown, count } from './format.js';
import { href } from './route.js';

const LEVELS = { good: 'ok', info: 'info', warn: 'warn', bad: 'bad' };

/** kindWords writes a kind as words. */
export function kindWords(kind) {
	return clean(kind, 60).replaceAll('_', ' ');
}

/** eventItem is one; named says that the name of the service is shown. */
export function eventItem(named = true) {
	const time = h('time'), sign = mark(), words = h('bdi'), left = h('span', { class: 'faint' }), times = h('span', { class: 'faint' });
	const where = h('a', { class: 'name clip' });
	const el = h('li', null, time, sign.el, h('span', { class: 'what' }, words, times, left), h('span', { class: 'where' }, named ? where : null));
	let ends = 0;
	const item = {
		el,
		update(e) {
			text(time, clock(e.at));
			attr(time, 'datetime', e.time);
			attr(time, 'title', stamp(e.at) + ' · ' + kindWords(e.kind));
			sign.set(LEVELS[e.level] ?? 'off');
			let s = e.text ? clean(e.text, 400) : kindWords(e.kind) + (e.addr ? ' ' + clean(e.addr, 200) : '') + (e.cause ? ': ' + clean(e.cause, 120) : '');
			if (e.addr && !s.includes(clean(e.addr, 200))) s = clean(e.addr, 200) + ' ' + s;
			if (e.by && !s.includes(e.by)) s += ' by ' + clean(e.by, 80);
			text(words, s);
			text(times, e.count > 1 ? ` (${count(e.count)} times)` : '');
			ends = e.ends;
			text(where, e.service ? clean(e.service, 80) : '');
			show(where, Boolean(e.service));
			attr(where, 'href', href('service', e.service ?? '', { mesh: e.mesh }));
		},
		tick(now) {
			text(left, ends > now ? ` · ${countdown(ends - now)} left` : '');
		},
	};
	return item;
}
