// Calls that failed, each with its explanation.
import { h, show, text, keyed } from './dom.js';
import { clean, count } from './format.js';
import { href } from './route.js';
import { failureItem, flagWords } from './explain.js';
import { get, query as params } from './stream.js';
import { option, options } from './filter.js';

const PAGE = 50;

export function failures(app, route) {
	let limit = PAGE, wanted = route.filters.id ? Number(route.filters.id) : 0;
	const service = option('Service', () => put()), flag = option('Flag', () => put());
	const list = h('div'), empty = h('p', { class: 'empty' });
	const more = h('button', { type: 'button', class: 'more', text: 'Show more', onclick: () => {
		limit += PAGE;
		app.refresh();
	} });
	const found = h('span', { class: 'faint small' });
	const el = h('div', null,
		h('div', { class: 'head' }, h('h1', { text: 'Failures' }), h('span', { class: 'faint small', text: 'Calls that failed, the latest first, and why.' }), h('span', { class: 'grow' }), h('span', { class: 'filters' }, service, flag)),
		h('section', { class: 'panel' }, h('header', null, h('h2', { text: 'Recent failures' }), found), list, more, empty));
	function put() {
		limit = PAGE;
		app.put(href('failures', '', { service: service.value, flag: flag.value }));
	}
	return {
		el,
		title: 'Failures',
		search: 'Search failures',
		attach() {
			// The stream begins with the latest: a link may be to an older one.
			if (wanted) get('api/failures' + params({ limit: 200 })).then((v) => app.hear('failures', v), () => {});
		},
		update({ model, query, filters }) {
			options(service, model.failures.map((f) => f.service), 'All services', filters.service, (v) => clean(v, 60));
			options(flag, model.failures.map((f) => f.flag ?? ''), 'All reasons', filters.flag, (v) => clean(v, 5) + (flagWords(v) ? ': ' + flagWords(v) : ''));
			let rows = model.failures;
			if (filters.service) rows = rows.filter((f) => f.service === filters.service);
			if (filters.flag) rows = rows.filter((f) => f.flag === filters.flag);
			if (query) rows = rows.filter((f) => f.find.includes(query));
			const id = Number(filters.id) || 0;
			let visible = rows.slice(0, limit);
			if (id) {
				const one = rows.find((f) => f.id === id);
				if (one && !visible.includes(one)) visible = [one, ...visible];
			}
			const items = keyed(list, visible, (f) => f.id, (f) => failureItem(f));
			if (wanted && items.has(wanted)) {
				const item = items.get(wanted);
				wanted = 0;
				item.toggle(true);
				requestAnimationFrame(() => item.el.scrollIntoView({ block: 'center' }));
			}
			show(more, rows.length > limit);
			show(empty, rows.length === 0);
			text(empty, model.failures.length ? 'No failure fits.' : model.time ? 'No call has failed since this console watches.' : 'Loading…');
			text(found, rows.length ? count(rows.length) + ' kept' : '');
		},
	};
}
