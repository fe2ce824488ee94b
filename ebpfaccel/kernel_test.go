package ebpfaccel

import "testing"

func TestCheckKernelKnowsTheBadOnes(t *testing.T) {
	for release, good := range map[string]bool{
		"4.18.0-553.el8_10.x86_64": false,
		"5.4.0-200-generic":        false,
		"5.14.0-503.el9":           false,
		"5.15.0":                   false,
		"5.15.200":                 false,
		"6.1.141":                  false,
		"6.1.142":                  true,
		"6.1.200-lts":              true,
		"6.2.0":                    false,
		"6.5.13":                   false,
		"6.6.0":                    false,
		"6.6.93":                   false,
		"6.6.94":                   true,
		"6.6.94+":                  true,
		"6.7.12":                   false,
		"6.8.0-45-generic":         false,
		"6.11.11":                  false,
		"6.12.33":                  false,
		"6.12.79":                  false,
		"6.12.80":                  true,
		"6.13.0":                   false,
		"6.15.3":                   false,
		"6.16.12":                  false,
		"6.17.0":                   true,
		"6.17-rc3":                 true,
		"6.18.44-fc-v595":          true,
		"7.0":                      true,
		"10.2.3":                   true,
		"":                         false,
		"6":                        false,
		"next-20260101":            false,
		"6.x.1":                    false,
		"6..1":                     false,
		"99999999999999999999.1.1": false,
	} {
		if err := CheckKernel(release); (err == nil) != good {
			t.Errorf("CheckKernel(%q) = %v", release, err)
		}
	}
}
