// The policy in force of each service, and where each value is from.
import { h, show, text, keyed } from './dom.js';
import { clean } from './format.js';
import { href } from './route.js';
import { Fetched } from './fetched.js';
import { query as params } from './stream.js';
import { policyTable } from './fields.js';
import { routeList } from './routes.js';

export function policy(app, route) {
	const services = h('select', {
		'aria-label': 'Service',
		onchange: () => app.go(href('policy', services.value.split('\n')[1] ?? '', { mesh: services.value.split('\n')[0] })),
	});
	const routes = h('select', { 'aria-label': 'Policy of a route', onchange: () => load(routes.value) });
	const own = h('input', { type: 'checkbox', id: 'own', onchange: () => app.refresh() });
	const fields = policyTable({ own: false });
	const layers = h('p', { class: 'small faint panel-body' });
	const title = h('h2', { text: 'Policy in force' });
	const list = routeList('the service that is called'), none = h('p', { class: 'empty', text: 'The spec has no routes.' });
	const el = h('div', null,
		h('div', { class: 'head' }, h('h1', { text: 'Policy' }), h('span', { class: 'grow' }), h('span', { class: 'filters' }, services, routes)),
		h('section', { class: 'panel' }, h('header', null, title, fields.note, h('span', { class: 'grow' }), h('label', { class: 'check' }, own, 'Only what is set')), layers, fields.el),
		h('section', { class: 'panel' }, h('header', null, h('h2', { text: 'All routes' })), list.el, none));
	let fetched = null, chosen = null;
	const all = new Fetched(app, 'api/routes', 5000);

	function load(rule) {
		fetched?.stop();
		fetched = new Fetched(app, 'api/policy' + params({ service: chosen.service, mesh: chosen.mesh, policy: rule }), 30000);
		fetched.start();
	}
	return {
		el,
		title: 'Policy',
		search: 'Search fields',
		attach: () => all.start(),
		detach() {
			fetched?.stop();
			all.stop();
		},
		update({ model, query }) {
			keyed(services, model.services, (s) => s.key, () => {
				const option = h('option');
				return {
					el: option,
					update(s) {
						option.value = s.key;
						text(option, clean(s.service, 80));
					},
				};
			});
			if (!chosen && model.services.length) {
				chosen = route.about ? model.find(route.filters.mesh, route.about) : model.services[0];
				if (chosen) {
					services.value = chosen.key;
					load('');
				}
			}
			const view = fetched?.data;
			const names = view?.policies ?? [];
			show(routes, names.length > 0);
			if (names.length || view) {
				keyed(routes, ['', ...names], (n) => n, (n) => ({ el: h('option', { value: n, text: n ? 'under policy ' + clean(n, 60) : 'without a route' }) }));
			}
			text(layers, view ? 'The narrowest layer that sets a field decides: ' + view.layers.map((l) => clean(l, 80)).join(' → ') + '.' : '');
			fields.own = own.checked;
			fields.set(view, fetched?.error || (model.time && !chosen ? 'there is no service of this name now' : ''), query);
			const rules = all.data?.routes ?? [];
			show(none, all.data !== null && rules.length === 0);
			list.set(rules);
		},
	};
}
