"""Pictures of 12-lead ECG printouts to signals in millivolts."""
