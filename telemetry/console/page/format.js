// Numbers, times and names as text. Whatever comes from outside passes through clean before it is shown.

const MINUTE = 60e3, HOUR = 60 * MINUTE, DAY = 24 * HOUR;

// What would change the direction of text, hide itself or break a line.
// eslint-disable-next-line no-control-regex
const INVISIBLE = /[\u0000-\u001f\u007f-\u00a0\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2000-\u200f\u2028-\u202f\u205f-\u206f\u3000\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff9-\uffff]/gu;

/** clean makes invisible characters visible as their code and cuts the text to max characters. */
export function clean(text, max = 160) {
	let s = typeof text === 'string' ? text : text == null ? '' : String(text);
	const long = s.length > max;
	if (long) s = s.slice(0, max);
	s = s.replace(INVISIBLE, (c) => (c === ' ' ? c : '\u2039' + c.codePointAt(0).toString(16).padStart(4, '0') + '\u203a'));
	return long ? s + '\u2026' : s;
}

/** count formats a number of things. */
export function count(n) {
	if (!Number.isFinite(n)) return '\u2013';
	if (Math.abs(n) < 10000) return String(Math.round(n));
	if (Math.abs(n) < 1e6) return trim(n / 1e3) + 'k';
	if (Math.abs(n) < 1e9) return trim(n / 1e6) + 'M';
	return trim(n / 1e9) + 'G';
}

/** rate formats how often something happens in a second. */
export function rate(n) {
	if (!Number.isFinite(n)) return '\u2013';
	if (n === 0) return '0';
	if (n < 0.1) return '<0.1';
	if (n < 10) return n.toFixed(1);
	return count(n);
}

/** share formats a part of 1 in percent. */
export function share(x, digits = 1) {
	if (!Number.isFinite(x)) return '\u2013';
	const p = x * 100;
	if (p === 0) return '0%';
	if (p < 0.1) return '<0.1%';
	if (p > 99.9 && p < 100) return '>99.9%';
	return (p >= 99.95 || p >= 10 && digits < 2 ? Math.round(p) : p.toFixed(digits)) + '%';
}

function trim(x) {
	return x < 10 ? x.toFixed(1) : String(Math.round(x));
}

/** latency formats milliseconds with three significant figures at most. */
export function latency(ms) {
	if (!Number.isFinite(ms) || ms < 0) return '\u2013';
	if (ms === 0) return '0';
	if (ms < 1) return Math.max(1, Math.round(ms * 1000)) + '\u202fµs';
	if (ms < 10) return ms.toFixed(1) + '\u202fms';
	if (ms < 1000) return Math.round(ms) + '\u202fms';
	return span(ms);
}

/** span formats milliseconds as a length of time, coarse where it is long. */
export function span(ms) {
	if (!Number.isFinite(ms)) return '\u2013';
	if (ms < 0) ms = 0;
	if (ms < 10e3) return (ms / 1000).toFixed(1) + '\u202fs';
	if (ms < MINUTE) return Math.round(ms / 1000) + '\u202fs';
	if (ms < HOUR) return Math.floor(ms / MINUTE) + '\u202fmin\u2009' + Math.floor(ms % MINUTE / 1000) + '\u202fs';
	if (ms < DAY) return Math.floor(ms / HOUR) + '\u202fh\u2009' + Math.floor(ms % HOUR / MINUTE) + '\u202fmin';
	return Math.floor(ms / DAY) + '\u202fd\u2009' + Math.floor(ms % DAY / HOUR) + '\u202fh';
}

/** countdown formats the time until something happens, in whole seconds: 0 is now. */
export function countdown(ms) {
	if (ms <= 0) return 'now';
	return ms < MINUTE ? Math.ceil(ms / 1000) + '\u202fs' : span(ms);
}

const pad = (n, w = 2) => String(n).padStart(w, '0');

/** clock formats the time of day, to the second. */
export function clock(ms) {
	const d = new Date(ms);
	return pad(d.getHours()) + ':' + pad(d.getMinutes()) + ':' + pad(d.getSeconds());
}

/** stamp formats date and time, to the millisecond. */
export function stamp(ms) {
	const d = new Date(ms);
	return d.getFullYear() + '-' + pad(d.getMonth() + 1) + '-' + pad(d.getDate()) + ' ' + clock(ms) + '.' + pad(d.getMilliseconds(), 3);
}

/** ago formats how long ago something was. */
export function ago(ms) {
	if (ms < 1500) return 'now';
	return (ms < MINUTE ? Math.round(ms / 1000) + '\u202fs' : ms < HOUR ? Math.round(ms / MINUTE) + '\u202fmin' : span(ms)) + ' ago';
}

/** plural puts a number before its noun. */
export function plural(n, noun, nouns = noun + 's') {
	return count(n) + '\u00a0' + (n === 1 ? noun : nouns);
}
