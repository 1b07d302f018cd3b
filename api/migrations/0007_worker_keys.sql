-- A worker's key may be bound to the worker of the key's name: it then takes runs of this class only, and nobody can take
-- its name. Keys without a class are those of an operator's own workers.
ALTER TABLE keys ADD COLUMN worker_class TEXT
    CHECK (worker_class IS NULL OR (scope = 'worker' AND length(worker_class) BETWEEN 1 AND 32));
CREATE UNIQUE INDEX keys_of_one_worker ON keys (name) WHERE worker_class IS NOT NULL AND revoked_at IS NULL;
