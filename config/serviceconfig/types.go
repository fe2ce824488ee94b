package serviceconfig

import "encoding/json"

// The types are those of grpc.service_config.ServiceConfig in JSON.
type serviceConfig struct {
	LoadBalancingPolicy string                       `json:"loadBalancingPolicy"`
	LoadBalancingConfig []map[string]json.RawMessage `json:"loadBalancingConfig"`
	MethodConfig        []methodConfig               `json:"methodConfig"`
	RetryThrottling     *retryThrottling             `json:"retryThrottling"`
	HealthCheckConfig   *healthCheckConfig           `json:"healthCheckConfig"`
}

type methodConfig struct {
	Name                    []methodName   `json:"name"`
	WaitForReady            *bool          `json:"waitForReady"`
	Timeout                 string         `json:"timeout"`
	MaxRequestMessageBytes  *json.Number   `json:"maxRequestMessageBytes"`
	MaxResponseMessageBytes *json.Number   `json:"maxResponseMessageBytes"`
	RetryPolicy             *retryPolicy   `json:"retryPolicy"`
	HedgingPolicy           *hedgingPolicy `json:"hedgingPolicy"`
}

type methodName struct {
	Service string `json:"service"`
	Method  string `json:"method"`
}

type retryPolicy struct {
	MaxAttempts          int     `json:"maxAttempts"`
	InitialBackoff       string  `json:"initialBackoff"`
	MaxBackoff           string  `json:"maxBackoff"`
	BackoffMultiplier    float64 `json:"backoffMultiplier"`
	RetryableStatusCodes []any   `json:"retryableStatusCodes"`
}

type hedgingPolicy struct {
	MaxAttempts         int    `json:"maxAttempts"`
	HedgingDelay        string `json:"hedgingDelay"`
	NonFatalStatusCodes []any  `json:"nonFatalStatusCodes"`
}

type retryThrottling struct {
	MaxTokens  float64 `json:"maxTokens"`
	TokenRatio float64 `json:"tokenRatio"`
}

type healthCheckConfig struct {
	ServiceName *string `json:"serviceName"`
}

// ring is the configuration of ring_hash_experimental, and least that of least_request_experimental.
type ring struct {
	MinRingSize       *json.Number `json:"minRingSize"`
	MaxRingSize       *json.Number `json:"maxRingSize"`
	RequestHashHeader string       `json:"requestHashHeader"`
}

type least struct {
	ChoiceCount int `json:"choiceCount"`
}

// outlier is the configuration of outlier_detection_experimental (gRFC A50).
type outlier struct {
	Interval                  string                       `json:"interval"`
	BaseEjectionTime          string                       `json:"baseEjectionTime"`
	MaxEjectionTime           string                       `json:"maxEjectionTime"`
	MaxEjectionPercent        *float64                     `json:"maxEjectionPercent"`
	SuccessRateEjection       *successRate                 `json:"successRateEjection"`
	FailurePercentageEjection *failurePercentage           `json:"failurePercentageEjection"`
	ChildPolicy               []map[string]json.RawMessage `json:"childPolicy"`
}

type successRate struct {
	StdevFactor           *float64 `json:"stdevFactor"`
	EnforcementPercentage *float64 `json:"enforcementPercentage"`
	MinimumHosts          *int     `json:"minimumHosts"`
	RequestVolume         *int     `json:"requestVolume"`
}

type failurePercentage struct {
	Threshold             *float64 `json:"threshold"`
	EnforcementPercentage *float64 `json:"enforcementPercentage"`
	MinimumHosts          *int     `json:"minimumHosts"`
	RequestVolume         *int     `json:"requestVolume"`
}
