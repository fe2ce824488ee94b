package vet

import "slices"

// The ids of all checks.
const (
	retryAmplification = "retry-amplification"
	callCycle          = "call-cycle"
	unknownService     = "unknown-service"

	attemptTimeoutTooLong  = "attempt-timeout-too-long"
	noTimeForRetry         = "no-time-for-retry"
	attemptsExceedTimeout  = "attempts-exceed-timeout"
	backoffTooLong         = "backoff-too-long"
	backupTooLate          = "backup-too-late"
	connectTimeoutTooLong  = "connect-timeout-too-long"
	readTimeoutTooLong     = "read-timeout-too-long"
	timeoutBelowLatency    = "timeout-below-latency"
	timeoutOutlivesCaller  = "timeout-outlives-caller"
	noDeadline             = "no-deadline"
	budgetOff              = "budget-off"
	budgetNeverGrants      = "budget-never-grants"
	budgetNeverRefuses     = "budget-never-refuses"
	budgetSlowRecovery     = "budget-slow-recovery"
	ejectionCapZero        = "ejection-cap-zero"
	panicUndoesEjection    = "panic-undoes-ejection"
	outlierNeverEjects     = "outlier-never-ejects"
	breakerNeverTrips      = "breaker-never-trips"
	breakerTripsOnOneCall  = "breaker-trips-on-one-call"
	breakerSlowAfterNever  = "breaker-slow-after-timeout"
	rateLimitBelowRate     = "rate-limit-below-rate"
	limitBelowLoad         = "limit-below-load"
	endpointLimitBelowLoad = "endpoint-limit-below-load"
	routeUnreachable       = "route-unreachable"
	routeExpired           = "route-expired"
	policyUnused           = "policy-unused"
	backendWithoutCalls    = "backend-without-calls"
	fallbackToItself       = "fallback-to-itself"
	fallbackCycle          = "fallback-cycle"
	mirrorToItself         = "mirror-to-itself"
	mirrorDropsCopies      = "mirror-drops-copies"
	splitLosesSessions     = "split-loses-sessions"
	repeatsWrites          = "repeats-writes"
	faultLeftOn            = "fault-left-on"
	hashKeyMissing         = "hash-key-missing"
	hashUnused             = "hash-unused"
	subsetTooSmall         = "subset-too-small"
	subsetWithoutEffect    = "subset-without-effect"
)

// Check is something that is looked for.
type Check struct {
	// ID names it. It does not change.
	ID string
	// Severity is that of its findings, or the worst of them.
	Severity Severity
	// Graph says that it needs a Graph.
	Graph bool
	// Summary says in a few words what is wrong.
	Summary string
	// Why says what comes of it.
	Why string
	// Do says what to do.
	Do string
}

// Checks returns all checks, in the order of the documentation.
func Checks() []Check { return slices.Clone(checks) }

var checks = []Check{
	{retryAmplification, Error, true, "attempts multiply along a path of calls",
		"Where every service of a path repeats what fails below, the last one gets the product of all attempts while it is down, 3^5 = 243 for five services of three attempts, and does not come up again.",
		"Retry on one level, best the one next to the fault; keep budgets on, with which five services make 1.6 attempts of one; serve with the server half of zerohop."},
	{callCycle, Warning, true, "services call each other in a circle",
		"A failure anywhere in the circle comes back to where it began, and each round multiplies the attempts.",
		"Break the circle, or give one of its calls a policy without retries."},
	{unknownService, Warning, true, "calls go to a service that the graph does not have",
		"Either the graph is incomplete and what is said of it too good, or a name is wrong and calls find no endpoint.",
		"Add the service to the graph, or correct the name."},
	{attemptTimeoutTooLong, Warning, false, "one attempt may take all the time that the call has",
		"An attempt that hangs is given up when the call is, so that it is never repeated.",
		"Set attemptTimeout to a part of the timeout, above the 99th percentile of the service."},
	{noTimeForRetry, Warning, false, "the second attempt has not enough time",
		"What is left after a first attempt that hangs does not suffice for an answer: the retry is load and nothing else.",
		"Lower attemptTimeout, or raise the timeout to twice of it and the pause between."},
	{attemptsExceedTimeout, Note, false, "more attempts than the timeout has room for",
		"If attempts hang fewer of them are made than the number says.",
		"Lower attempts or attemptTimeout, or raise the timeout."},
	{backoffTooLong, Warning, false, "the pause before a retry may outlast the call",
		"The call runs out of time before it is repeated.",
		"Lower retry.base and retry.max to a small part of the timeout."},
	{backupTooLate, Warning, false, "backups come when the call is over",
		"A call that hangs is not rescued, as its backup would come after its end.",
		"Set backup.min to less than half of the time that the call has."},
	{connectTimeoutTooLong, Warning, false, "to connect may take longer than the call",
		"An endpoint whose packets are lost uses up the time of the call, which cannot go elsewhere.",
		"Lower connect.timeout to less than attemptTimeout, or half of the timeout."},
	{readTimeoutTooLong, Warning, false, "the read timeout never comes to bear",
		"The timeout of the call, which includes the body, ends it before.",
		"Lower readTimeout, or leave it out."},
	{timeoutBelowLatency, Error, true, "a timeout is shorter than answers take",
		"Calls that would be answered are cut, and repeated, which makes the service slower still. It is an error if even the median is cut.",
		"Raise the timeout above the 99th percentile of the service, with room to spare."},
	{timeoutOutlivesCaller, Warning, true, "a service works on when its caller has left",
		"It goes on to call others for nobody, and takes their capacity from callers who still wait.",
		"Lower the timeout below that of the caller, or serve with the server half of zerohop, which knows how much time is left."},
	{noDeadline, Warning, true, "a call that may not be repeated has no bound",
		"Nothing ends it if its endpoint hangs: backups are for calls that may be repeated.",
		"Set a timeout, or let the caller bring a deadline."},
	{budgetOff, Warning, false, "retries without a budget",
		"While the service is down it gets its load times the number of attempts.",
		"Leave budget.mode out, or set it to on."},
	{budgetNeverGrants, Warning, false, "the budget grants no retry",
		"Retries are on, but there is never enough in the bucket for one.",
		"Raise budget.tokens above 2, or the ratio or the floor, or switch retries off."},
	{budgetNeverRefuses, Warning, true, "the budget refuses nothing at this load",
		"Its floor is more than all retries of the process, so that a service that is down gets all of them, from each process.",
		"Lower budget.floor, or take the kind that successes pay for."},
	{budgetSlowRecovery, Warning, true, "the budget takes long to recover at this load",
		"After an outage nothing is repeated until successes have paid in what the bucket lacks.",
		"Lower budget.tokens, or raise budget.ratio."},
	{ejectionCapZero, Warning, true, "the share that may be ejected is less than one endpoint",
		"No endpoint is ever ejected, however it fails.",
		"Raise outlier.maxEjected to 1/n or more, or set outlier.one to on."},
	{panicUndoesEjection, Warning, true, "the first ejection is a panic",
		"With one endpoint out of service fewer are left than the panic threshold asks for, so calls go to all of them again.",
		"Lower panic below (n-1)/n."},
	{outlierNeverEjects, Warning, true, "no rule of ejection can apply at this load",
		"Endpoints get fewer responses within the window than the rules need, so a bad one is never ejected.",
		"Lower minResponses and minVolume, lengthen the window, or set consecutive."},
	{breakerNeverTrips, Warning, true, "the breaker can never open at this load",
		"There are fewer calls within its window than minRequests.",
		"Lower minRequests, lengthen the window, count by calls, or set consecutive."},
	{breakerTripsOnOneCall, Warning, false, "one call opens the breaker of the service",
		"The attempts of one call that fails are as many failures in a row as the breaker asks for.",
		"Raise consecutive well above retry.attempts, or leave it out."},
	{breakerSlowAfterNever, Warning, false, "no answer is ever slow enough for the breaker",
		"Attempts are cut before they take as long as slowAfter.",
		"Lower slowAfter below the timeouts."},
	{rateLimitBelowRate, Error, true, "the rate limit is below the rate",
		"Calls are refused at the usual load.",
		"Raise rateLimit.rate above the rate of a process: the limit is that of each."},
	{limitBelowLoad, Error, true, "fewer calls may be in flight than there are",
		"By Little's law there are rate x latency calls in flight. Those above the limit are refused or wait.",
		"Raise limit.max well above that: the limit is that of each process."},
	{endpointLimitBelowLoad, Error, true, "endpoints may have fewer attempts in flight than there are",
		"By Little's law there are rate x latency attempts in flight on all endpoints together. Those above the limit fail.",
		"Raise endpointLimit.max well above that: it is that of each process and endpoint."},
	{routeUnreachable, Warning, false, "no call comes under the route",
		"Rules of higher precedence take all calls that it is for, or it is for none.",
		"Remove it, or make its match narrower than that of the rule before it."},
	{routeExpired, Warning, false, "the time of the route is over",
		"No call comes under it any more.",
		"Remove it, or move match.before."},
	{policyUnused, Warning, false, "no route names the policy",
		"What it says has no effect.",
		"Remove it, or name it in a route."},
	{backendWithoutCalls, Note, false, "a backend has weight 0",
		"It gets no calls, which is meant to be so for a while only.",
		"Remove it, or give it a weight."},
	{fallbackToItself, Warning, false, "a service is its own fallback",
		"There is no fallback for such calls.",
		"Name another service."},
	{fallbackCycle, Note, false, "services are each other's fallback",
		"An outage of one doubles the load of the other, and if both fail each call is made to both.",
		"Have one of them fall back to what does not depend on the other."},
	{mirrorToItself, Warning, false, "calls are mirrored to where they go",
		"The service gets its load twice, and executes what it is asked for twice.",
		"Mirror to another service, or select other endpoints."},
	{mirrorDropsCopies, Note, true, "a mirror cannot take all copies",
		"By Little's law more copies are under way than may be, so that some calls are not mirrored.",
		"Raise maxInFlight, or lower percent."},
	{splitLosesSessions, Warning, false, "a split at random moves sessions",
		"Each call of a client falls on another side, where nobody knows its session.",
		"Set split.key to what tells clients apart, such as the cookie of the session."},
	{repeatsWrites, Error, false, "calls that must not be executed twice are repeated",
		"idempotent: on makes retries and backups of what writes. It is an error if the graph says that the calls are unsafe.",
		"Leave idempotent out: calls that have an Idempotency-Key are repeated anyway."},
	{faultLeftOn, Error, false, "calls are made to fail on purpose",
		"A fault without a condition on headers, on the lane or on the time is for all users. It is an error if all calls fail.",
		"Remove it, or make it conditional: byHeader, match.headers, match.lane, or match.before."},
	{hashKeyMissing, Note, false, "an algorithm that hashes has no key",
		"Calls without a key go to a random endpoint each, unless the code sets CallOptions.HashKey.",
		"Say in hash where the key comes from, or take another algorithm."},
	{hashUnused, Warning, false, "a key that no algorithm looks at",
		"Only rendezvous, ring-hash and maglev hash.",
		"Set balance to one of them, or remove hash."},
	{subsetTooSmall, Warning, true, "some endpoints are in no subset",
		"All clients together keep to fewer endpoints than there are: the others get no calls.",
		"Raise subset to the number of endpoints divided by that of clients, and some more."},
	{subsetWithoutEffect, Note, true, "the subset is not smaller than the service",
		"Processes keep to a subset only where there are more than 32 endpoints, and more than the subset.",
		"Remove it."},
}
