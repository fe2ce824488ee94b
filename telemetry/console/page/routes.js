// A rule and how it shares calls out.
import { h, text, show, prop, keyed } from './dom.js';
import { clean, count, rate, share, latency } from './format.js';

// The first rules decide; the rest of thousands is for machines.
const MOST = 100;

/** routeList is a list of rules, and of what is left out. */
export function routeList(own) {
	const list = h('ul', { class: 'routes' }), left = h('p', { class: 'empty' });
	return {
		el: h('div', null, list, left),
		set(rules) {
			keyed(list, rules.slice(0, MOST), (r) => r.mesh + '/' + r.index, () => routeItem(own));
			show(left, rules.length > MOST);
			text(left, `${count(rules.length - MOST)} more rules are left out.`);
		},
	};
}

/** routeItem is a line of a list of rules; own is the service that is looked at, whose name is not repeated. */
function routeItem(own) {
	const name = h('bdi', { class: 'name' }), stats = h('span', { class: 'faint small' }), acts = h('span', { class: 'legend' });
	const matches = h('ul', { class: 'small faint' }), split = h('div', { class: 'split', 'aria-hidden': 'true' }), legend = h('ul', { class: 'legend' });
	return {
		el: h('li', null, h('div', { class: 'route-line' }, h('strong', null, name), stats), matches, split, legend, acts),
		update(r) {
			text(name, r.name ? clean(r.name, 80) : 'Rule ' + (r.index + 1));
			text(stats, r.now.rate > 0 ? `${rate(r.now.rate)} calls/s, ${share(r.now.errors)} failed, p99 ${latency(r.now.p99 || NaN)}` : count(r.calls) + ' calls so far');
			keyed(matches, r.matches ?? [], (m) => m, (m) => ({ el: h('li', { class: 'name', text: clean(m, 300) }) }));
			const backends = (r.backends ?? []).map((b, i) => ({ ...b, i }));
			const several = backends.length > 1;
			show(split, several);
			keyed(split, several ? backends : [], (b) => b.i, () => {
				const el = h('i');
				return { el, update: (b) => prop(el, 'flex', String(b.got >= 0 ? b.got : b.share)) };
			});
			keyed(legend, backends, (b) => b.i, () => {
				const el = h('li', { class: 'name' });
				return { el, update: (b, many) => text(el, backend(b, many, own)) };
			}, several);
			const list = [...(r.actions ?? []), ...(r.policy ? ['policy ' + r.policy] : [])];
			show(acts, list.length > 0);
			keyed(acts, list, (a) => a, (a) => ({ el: h('span', { class: 'chip', text: clean(a, 80) }) }));
		},
	};
}

function backend(b, several, own) {
	let s = b.service ? clean(b.service, 80) : clean(own, 80);
	if (b.select?.length) s += ' [' + b.select.map((p) => clean(p.name, 40) + '=' + clean(p.value, 40)).join(', ') + ']';
	if (several) s += b.got >= 0 ? `: ${share(b.got)}, meant ${share(b.share)}` : `: meant ${share(b.share)}`;
	if (b.now?.errors >= 0.01) s += `, ${share(b.now.errors)} failed`;
	return s;
}
