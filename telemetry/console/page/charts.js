// Small pictures, drawn by hand: lines, bars and the attempts of a call.
import { s, h, attr, prop, text, show } from './dom.js';

/** sparkline draws one number over time, and below it in another colour the part of it that failed, if there is that. */
export function sparkline(width = 96, height = 22, label = '') {
	const area = s('path', { class: 'spark-area' }), line = s('path', { class: 'spark-line' }), bad = s('path', { class: 'spark-bad' });
	const dot = s('circle', { class: 'spark-dot', r: 1.6 });
	const el = s('svg', {
		class: 'spark', viewBox: `0 0 ${width} ${height}`, width, height, preserveAspectRatio: 'none', role: 'img', 'aria-label': label,
	}, area, bad, line, dot);
	let last = null, lastBad = null;
	return {
		el,
		set(values, failed) {
			// What comes from the model is replaced, never changed: the same array is the same picture.
			if (values === last && failed === lastBad) return;
			last = values;
			lastBad = failed;
			const n = values?.length ?? 0;
			let max = 0;
			for (let i = 0; i < n; i++) if (values[i] > max) max = values[i];
			if (n < 2 || max <= 0) {
				attr(line, 'd', n ? `M0 ${height - 1}H${width}` : null);
				attr(area, 'd', null);
				attr(bad, 'd', null);
				attr(dot, 'r', 0);
				return;
			}
			const x = (i) => Math.round(i / (n - 1) * (width - 4) * 10) / 10 + 1;
			const y = (v) => Math.round((height - 1.5 - v / max * (height - 4)) * 10) / 10;
			let d = '', pen = 'M';
			for (let i = 0; i < n; i++) {
				if (values[i] == null || values[i] < 0) {
					pen = 'M';
					continue;
				}
				d += pen + x(i) + ' ' + y(values[i]);
				pen = 'L';
			}
			attr(line, 'd', d);
			attr(area, 'd', d.lastIndexOf('M') > 0 ? null : d + `V${height}H${x(0)}Z`);
			let b = '';
			for (let i = 0; failed && i < n; i++) if (failed[i] > 0) b += `M${x(i)} ${height}V${Math.min(y(Math.min(failed[i], max)), height - 2.5)}`;
			attr(bad, 'd', b || null);
			const end = values[n - 1];
			attr(dot, 'r', end == null || end < 0 ? 0 : 1.6);
			attr(dot, 'cx', x(n - 1));
			attr(dot, 'cy', y(end ?? 0));
		},
	};
}

/** meter draws a part of a whole, with a tick at what is meant. */
export function meter() {
	const bar = h('i', { class: 'meter-bar' }), tick = h('i', { class: 'meter-tick' });
	const el = h('span', { class: 'meter', 'aria-hidden': 'true' }, bar, tick);
	return {
		el,
		set(value, meant, state = '') {
			prop(bar, 'width', Math.min(100, Math.max(0, value * 100)).toFixed(1) + '%');
			attr(el, 'data-state', state);
			show(tick, meant >= 0);
			if (meant >= 0) prop(tick, 'left', Math.min(100, meant * 100).toFixed(1) + '%');
		},
	};
}

/** figure is a number with its name, as in the strip on top of a page; a wide one has place for two numbers. */
export function figure(label, wide) {
	const value = h('span', { class: 'figure-value' }), note = h('span', { class: 'figure-note' });
	const el = h('div', { class: wide ? 'figure wide' : 'figure' }, h('span', { class: 'figure-label', text: label }), value, note);
	return {
		el,
		set(v, n = '', state = '') {
			text(value, v);
			text(note, n);
			attr(el, 'data-state', state);
		},
	};
}
