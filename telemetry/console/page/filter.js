// Lists to choose from that follow the data.
import { h, keyed, text } from './dom.js';

/** option makes an empty list to choose from. */
export function option(label, change) {
	return h('select', { 'aria-label': label, onchange: change });
}

/** options fills it with the values there are, each once, behind one that stands for all. */
export function options(select, values, all, chosen = '', words = (v) => v) {
	const unique = [...new Set(values)].filter(Boolean).sort();
	if (chosen && !unique.includes(chosen)) unique.push(chosen);
	const stamp = JSON.stringify(unique);
	if (select.stamp !== stamp) {
		select.stamp = stamp;
		keyed(select, ['', ...unique], (v) => v, (v) => {
			const el = h('option');
			el.value = v;
			text(el, v === '' ? all : words(v));
			return { el };
		});
	}
	if (select.value !== chosen) select.value = chosen;
}
