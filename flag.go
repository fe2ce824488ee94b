package zerohop

// Flag is why a call ended as it did, in the vocabulary of Envoy's response flags, which operators know. The empty Flag is that of
// calls that were answered at their first attempt.
type Flag string

const (
	// FlagNoHealthy: the service has no endpoint that the call could go to (UH).
	FlagNoHealthy Flag = "UH"
	// FlagConnect: the last attempt could not connect (UF).
	FlagConnect Flag = "UF"
	// FlagOverflow: a limit or a circuit breaker refused the call (UO).
	FlagOverflow Flag = "UO"
	// FlagTimeout: an attempt or the call took longer than its policy allows (UT).
	FlagTimeout Flag = "UT"
	// FlagReset: the endpoint reset the exchange (UR).
	FlagReset Flag = "UR"
	// FlagTerminated: the connection ended amid the exchange (UC).
	FlagTerminated Flag = "UC"
	// FlagRetries: attempts or the retry budget were used up (URX).
	FlagRetries Flag = "URX"
	// FlagNoRoute: the rule that the call fits has nowhere to send it (NR).
	FlagNoRoute Flag = "NR"
	// FlagNoService: there is no service of that name (NC).
	FlagNoService Flag = "NC"
	// FlagRateLimited: a rate limit refused the call (RL).
	FlagRateLimited Flag = "RL"
	// FlagDelayInjected: a fault of the route held the call up (DI).
	FlagDelayInjected Flag = "DI"
	// FlagFaultInjected: a fault of the route made the call fail (FI).
	FlagFaultInjected Flag = "FI"
	// FlagCallerGone: the caller cancelled the call (DC).
	FlagCallerGone Flag = "DC"
	// FlagDeadline: the deadline of the caller passed (DT).
	FlagDeadline Flag = "DT"
	// FlagProtocol: the endpoint broke the protocol (UPE).
	FlagProtocol Flag = "UPE"
	// FlagShed: the server, or throttling before it, shed the call (OM).
	FlagShed Flag = "OM"
	// FlagLocalReset: the client itself gave the exchange up (LR).
	FlagLocalReset Flag = "LR"
	// FlagStatus: the endpoint answered with a failure that is not repeated. Envoy has no flag for that; this one is ours.
	FlagStatus Flag = "US"
)
