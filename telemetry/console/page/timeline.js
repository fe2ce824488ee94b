// What happened, the latest first.
import { h, show, text, keyed } from './dom.js';
import { clean, count } from './format.js';
import { href } from './route.js';
import { eventItem, kindWords } from './event.js';
import { option, options } from './filter.js';

const PAGE = 100;

export function timeline(app) {
	let limit = PAGE;
	const service = option('Service', () => put()), kind = option('Kind', () => put());
	const list = h('ol', { class: 'events' }), empty = h('p', { class: 'empty' }), found = h('span', { class: 'faint small' });
	const more = h('button', { type: 'button', class: 'more', text: 'Show more', onclick: () => {
		limit += PAGE;
		app.refresh();
	} });
	const el = h('div', null,
		h('div', { class: 'head' }, h('h1', { text: 'Timeline' }), h('span', { class: 'faint small', text: 'Ejections, breakers, budgets, discovery and what operators did.' }), h('span', { class: 'grow' }), h('span', { class: 'filters' }, service, kind)),
		h('section', { class: 'panel' }, h('header', null, h('h2', { text: 'Events' }), found), list, more, empty));
	function put() {
		limit = PAGE;
		app.put(href('timeline', '', { service: service.value, kind: kind.value }));
	}
	return {
		el,
		title: 'Timeline',
		search: 'Search events',
		update({ model, query, filters }) {
			options(service, model.events.map((e) => e.service), 'All services', filters.service, (v) => clean(v, 60));
			options(kind, model.events.map((e) => e.kind), 'All kinds', filters.kind, kindWords);
			let rows = model.events;
			if (filters.service) rows = rows.filter((e) => e.service === filters.service);
			if (filters.kind) rows = rows.filter((e) => e.kind === filters.kind);
			if (query) rows = rows.filter((e) => e.find.includes(query));
			const lines = [];
			let day = '';
			for (const e of rows.slice(0, limit)) {
				const d = new Date(e.at).toLocaleDateString(undefined, { weekday: 'long', day: 'numeric', month: 'long' });
				if (d !== day) lines.push({ id: 'day ' + d, day: d });
				day = d;
				lines.push(e);
			}
			const items = keyed(list, lines, (e) => e.id, (e) => (e.day ? { el: h('li', { class: 'day', text: e.day }) } : eventItem()));
			items.forEach((item) => item.tick?.(model.now));
			show(more, rows.length > limit);
			show(empty, rows.length === 0);
			text(empty, model.events.length ? 'No event fits.' : model.time ? 'Nothing has happened since this console watches.' : 'Loading…');
			text(found, rows.length ? count(rows.length) + ' kept' : '');
		},
	};
}
