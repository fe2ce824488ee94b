// The fields of a policy with the layer that each is from.
import { h, text, attr, show, keyed } from './dom.js';
import { clean, plural } from './format.js';

/** policyTable shows the fields of a PolicyView; own keeps to those that somebody has set. */
export function policyTable({ own }) {
	const body = h('tbody'), none = h('p', { class: 'empty' }), note = h('span', { class: 'faint small' });
	const table = h('table', { class: 'policy', 'aria-label': 'Policy' },
		h('thead', null, h('tr', null, h('th', { scope: 'col', text: 'Field' }), h('th', { scope: 'col', text: 'Value' }), h('th', { scope: 'col', text: 'From' }))), body);
	let last, lastQuery, lastError, lastOwn;
	const t = {
		el: h('div', null, table, none),
		note,
		own,
		set(view, error, query) {
			if (view === last && query === lastQuery && error === lastError && t.own === lastOwn) return;
			last = view;
			lastQuery = query;
			lastError = error;
			lastOwn = t.own;
			let fields = view?.fields ?? [];
			const all = fields.length, set = fields.filter(isOwn).length;
			if (t.own) fields = fields.filter(isOwn);
			else if (query) fields = fields.filter((f) => (f.path + ' ' + f.value + ' ' + (f.origin ?? '')).toLowerCase().includes(query));
			keyed(body, fields, (f) => f.path, () => {
				const th = h('th', { scope: 'row', class: 'mono' }), value = h('td', { class: 'mono' }), from = h('td'), el = h('tr', null, th, value, from);
				return {
					el,
					update(f) {
						text(th, clean(f.path, 120));
						text(value, clean(f.value, 600));
						text(from, f.origin ? clean(f.origin, 120) : 'default of the stage');
						attr(el, 'data-own', isOwn(f));
					},
				};
			});
			show(table, fields.length > 0);
			show(none, fields.length === 0);
			text(none, error && !view ? 'The policy could not be read: ' + error + '.' : !view ? 'Loading…' : t.own ? 'Nothing is set: all values are built in.' : 'No field fits the search.');
			text(note, view ? (t.own ? plural(set, 'value') + ' set' : `${plural(all, 'value')}, ${set} set`) : '');
		},
	};
	return t;
}

function isOwn(f) {
	return Boolean(f.origin) && f.origin !== 'built-in';
}
