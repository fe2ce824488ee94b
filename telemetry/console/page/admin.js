// What operators can do, where the program has a handler for it: each for a while, with a reason, and after a question.
import { h, text, show } from './dom.js';
import { clean } from './format.js';

const TIMES = [['5m', '5 minutes'], ['10m', '10 minutes'], ['30m', '30 minutes'], ['1h', '1 hour'], ['4h', '4 hours']];
const WORDS = {
	eject: ['Eject', 'New calls go elsewhere at once, sessions too. It comes back by itself.'],
	drain: ['Drain', 'New calls go elsewhere; sessions stay until they end. It comes back by itself.'],
	'force breaker': ['Set breaker', 'The breaker of the service stays so until the time is up.'],
	'pause retries': ['Pause retries', 'Failed attempts are not repeated, and slow ones get no backup, until the time is up.'],
	release: ['Release', 'Ends what an operator has done before its time is up.'],
};

/** actions makes the buttons of a service and of its endpoints; target() is the service that they are about. */
export function actions(app, target) {
	const made = [];
	return {
		/** show puts the buttons for the service into a place, if there is a handler. */
		show(place, service) {
			const able = app.model.admin !== '';
			show(place, able);
			if (able && !made.length) {
				for (const action of ['force breaker', 'pause retries', 'release']) {
					const button = h('button', { type: 'button', class: 'button', text: WORDS[action][0] + (action === 'release' ? '' : '…'), onclick: () => ask(app, action, { ...target() }) });
					made.push(button);
					place.append(button);
				}
			}
			if (able) {
				show(made[0], Boolean(service.breaker));
				show(made[2], service.forcedUntil > 0 || service.pausedUntil > 0);
			}
		},
		/** cell is the place for the buttons of an endpoint. */
		cell() {
			let row = null;
			const choose = h('select', {
				class: 'act', 'aria-label': 'Act on this endpoint',
				onchange() {
					const action = choose.value;
					choose.value = '';
					if (action) ask(app, action, { ...target(), addr: row.addr });
				},
			}, h('option', { value: '', text: 'Act…' }), h('option', { value: 'eject', text: 'Eject…' }), h('option', { value: 'drain', text: 'Drain…' }), h('option', { value: 'release', text: 'Release…' }));
			return {
				el: choose,
				set(e) {
					row = e;
					show(choose, app.model.admin !== '');
				},
			};
		},
	};
}

/** ask has an action confirmed and sends it. */
function ask(app, action, about) {
	const [title, what] = WORDS[action];
	const timed = action !== 'release';
	const time = h('select', null, ...TIMES.map(([value, words]) => h('option', { value, text: words })));
	const state = h('select', null, h('option', { value: 'forced-open', text: 'open: refuse all calls' }), h('option', { value: 'disabled', text: 'disabled: let all calls through' }), h('option', { value: 'metrics-only', text: 'observe only' }));
	const why = h('input', { class: 'field', required: true, maxlength: 200, autocomplete: 'off', placeholder: 'for those who read of it later' });
	const trouble = h('p', { role: 'alert', hidden: true }, h('span', { 'data-state': 'bad' }));
	const yes = h('button', { type: 'submit', class: 'button danger', text: title });
	const no = h('button', { type: 'button', class: 'button', text: 'Cancel', onclick: () => dialog.close() });
	const form = h('form', { method: 'dialog' },
		h('h2', { id: 'ask', text: title + '?' }),
		h('p', null, h('bdi', { class: 'name mono', text: clean(about.addr ?? about.service, 200) }), about.addr ? ' of ' : '', about.addr ? h('bdi', { class: 'name', text: clean(about.service, 100) }) : ''),
		h('p', { class: 'faint', text: what }),
		action === 'force breaker' ? h('label', null, 'State', state) : null,
		timed ? h('label', null, 'For how long', time) : null,
		h('label', null, 'Why', why), trouble, h('footer', null, no, yes));
	form.addEventListener('submit', async (e) => {
		e.preventDefault();
		yes.disabled = true;
		try {
			await send(app.model.admin, { action, ...about, ...(timed ? { for: time.value } : {}), ...(action === 'force breaker' ? { state: state.value } : {}), why: why.value.trim() });
			dialog.close();
		} catch (error) {
			text(trouble.firstChild, clean(error.message, 300));
			show(trouble, true);
			yes.disabled = false;
		}
	});
	const dialog = h('dialog', { 'aria-labelledby': 'ask', onclose: () => dialog.remove() }, form);
	document.body.append(dialog);
	dialog.showModal();
	why.focus();
}

async function send(path, request) {
	const answer = await fetch(path, { method: 'POST', headers: { 'Content-Type': 'application/json' }, credentials: 'same-origin', cache: 'no-store', body: JSON.stringify(request) });
	const body = await answer.json().catch(() => ({}));
	if (!answer.ok || !body.done) throw new Error(body.error || (answer.status === 401 || answer.status === 403 ? 'You may not do that.' : `The server answered ${answer.status}.`));
}
