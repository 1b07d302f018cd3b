-- Secret values of an evaluation, sealed with the control plane's key; gone when its last run has ended.
ALTER TABLE evaluations ADD COLUMN secrets_sealed BYTEA;
