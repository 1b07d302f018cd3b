-- The whole store of record: who may call, what is evaluated, the queue, what happened, what it cost.
--
-- The queue is narrow and hot (`run_queue`), everything else is wide and cold (`runs`, `attempts`, …). A run leaves the
-- queue when it ends. No index holds `lease_until`, so that a heartbeat is a heap-only update.

CREATE TABLE installation (
    single BOOLEAN PRIMARY KEY DEFAULT TRUE CHECK (single),
    id   TEXT NOT NULL
);
INSERT INTO installation (id) VALUES (substr(replace(gen_random_uuid()::text, '-', ''), 1, 12));

CREATE TABLE tenants (
    id         UUID PRIMARY KEY,
    name       TEXT NOT NULL UNIQUE CHECK (length(name) BETWEEN 1 AND 64),
    created_at TIMESTAMPTZ NOT NULL DEFAULT now()
);

-- Only the SHA-256 of a key's secret is kept. The secret has 256 random bits, so a slow hash would add nothing.
CREATE TABLE keys (
    id         UUID PRIMARY KEY,
    tenant     UUID NOT NULL REFERENCES tenants,
    name       TEXT NOT NULL CHECK (length(name) BETWEEN 1 AND 128),
    scope      TEXT NOT NULL CHECK (scope IN ('validator', 'viewer', 'admin', 'worker')),
    hash       BYTEA NOT NULL UNIQUE CHECK (length(hash) = 32),
    created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    revoked_at TIMESTAMPTZ
);

-- Who changed what. Append-only.
CREATE TABLE audit (
    id      BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at      TIMESTAMPTZ NOT NULL DEFAULT now(),
    tenant  UUID NOT NULL,
    key     UUID,
    action  TEXT NOT NULL,
    subject TEXT NOT NULL,
    detail  JSONB NOT NULL DEFAULT '{}'
);
CREATE INDEX audit_by_tenant ON audit (tenant, id);

CREATE TABLE agents (
    id         UUID PRIMARY KEY,
    tenant     UUID NOT NULL REFERENCES tenants,
    name       TEXT NOT NULL CHECK (length(name) BETWEEN 1 AND 128),
    contract   TEXT NOT NULL CHECK (contract IN ('patch', 'command', 'oracle', 'nop')),
    digest     TEXT,
    size_bytes BIGINT NOT NULL DEFAULT 0,
    created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    CHECK ((contract IN ('patch', 'command')) = (digest IS NOT NULL))
);
CREATE INDEX agents_by_tenant ON agents (tenant, id);

CREATE TABLE tasks (
    tenant     UUID NOT NULL REFERENCES tenants,
    digest     TEXT NOT NULL,
    id         UUID NOT NULL UNIQUE,
    name       TEXT NOT NULL CHECK (length(name) BETWEEN 1 AND 256),
    size_bytes BIGINT NOT NULL,
    warnings   JSONB NOT NULL DEFAULT '[]',
    -- Longest time that an attempt may take by the task's own limits, before multipliers; NULL: the operator's maxima.
    longest_sec DOUBLE PRECISION,
    -- Names of `${VAR}` templates that have no default: a submit must bring them.
    needs_values TEXT[] NOT NULL DEFAULT '{}',
    created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant, digest)
);
CREATE INDEX tasks_by_tenant ON tasks (tenant, id);

CREATE TABLE task_sets (
    id         UUID PRIMARY KEY,
    tenant     UUID NOT NULL REFERENCES tenants,
    name       TEXT NOT NULL CHECK (length(name) BETWEEN 1 AND 128),
    created_at TIMESTAMPTZ NOT NULL DEFAULT now()
);
CREATE INDEX task_sets_by_tenant ON task_sets (tenant, id);

CREATE TABLE task_set_items (
    task_set UUID NOT NULL REFERENCES task_sets,
    position INT NOT NULL,
    tenant   UUID NOT NULL,
    task     TEXT NOT NULL,
    PRIMARY KEY (task_set, position),
    FOREIGN KEY (tenant, task) REFERENCES tasks (tenant, digest)
);

-- Immutable by digest: the same policy submitted twice is one row.
CREATE TABLE policies (
    digest     TEXT PRIMARY KEY,
    body       JSONB NOT NULL,
    created_at TIMESTAMPTZ NOT NULL DEFAULT now()
);

CREATE TABLE evaluations (
    id              UUID PRIMARY KEY,
    tenant          UUID NOT NULL REFERENCES tenants,
    agent           UUID NOT NULL REFERENCES agents,
    task_set        UUID REFERENCES task_sets,
    policy          TEXT NOT NULL REFERENCES policies,
    prices          JSONB NOT NULL,
    "values"        JSONB NOT NULL DEFAULT '{}',
    class           TEXT NOT NULL CHECK (length(class) BETWEEN 1 AND 32),
    band            SMALLINT NOT NULL CHECK (band BETWEEN 0 AND 9),
    repeats         INT NOT NULL CHECK (repeats > 0),
    idempotency_key TEXT,
    request_digest  TEXT NOT NULL,
    -- Counters, changed in the transaction that ends a run.
    total           INT NOT NULL CHECK (total > 0),
    finished        INT NOT NULL DEFAULT 0,
    graded          INT NOT NULL DEFAULT 0,
    score_sum       DOUBLE PRECISION NOT NULL DEFAULT 0,
    cost_pico       NUMERIC NOT NULL DEFAULT 0,
    created_at      TIMESTAMPTZ NOT NULL DEFAULT now(),
    finished_at     TIMESTAMPTZ,
    cancelled_at    TIMESTAMPTZ,
    UNIQUE (tenant, idempotency_key),
    CHECK (finished <= total),
    CHECK (graded <= finished)
) WITH (fillfactor = 80);
CREATE INDEX evaluations_by_tenant ON evaluations (tenant, id);

CREATE TABLE runs (
    id            UUID PRIMARY KEY,
    tenant        UUID NOT NULL REFERENCES tenants,
    kind          TEXT NOT NULL CHECK (kind IN ('evaluation', 'code')),
    evaluation    UUID REFERENCES evaluations,
    task          TEXT NOT NULL,
    task_name     TEXT NOT NULL,
    repeat        INT NOT NULL CHECK (repeat >= 0),
    state         TEXT NOT NULL DEFAULT 'queued'
                  CHECK (state IN ('queued', 'running', 'finished', 'gave_up', 'cancelled')),
    attempts      INT NOT NULL DEFAULT 0,
    proxy_losses  INT NOT NULL DEFAULT 0,
    last_attempt  UUID,
    worker        TEXT,
    score         DOUBLE PRECISION,
    cause         TEXT,
    detail        TEXT,
    cost_pico     BIGINT NOT NULL DEFAULT 0 CHECK (cost_pico >= 0),
    tokens        BIGINT NOT NULL DEFAULT 0,
    denied        BIGINT NOT NULL DEFAULT 0,
    -- Longest time for one attempt, from task, policy and operator at submit.
    longest_sec   DOUBLE PRECISION NOT NULL CHECK (longest_sec > 0),
    not_before    TIMESTAMPTZ NOT NULL DEFAULT now(),
    created_at    TIMESTAMPTZ NOT NULL DEFAULT now(),
    started_at    TIMESTAMPTZ,
    finished_at   TIMESTAMPTZ,
    CHECK ((kind = 'evaluation') = (evaluation IS NOT NULL)),
    CHECK ((state IN ('finished', 'gave_up', 'cancelled')) = (finished_at IS NOT NULL)),
    CHECK (state <> 'finished' OR score IS NOT NULL)
) WITH (fillfactor = 80);
CREATE INDEX runs_by_evaluation ON runs (evaluation, id);
CREATE INDEX runs_by_tenant ON runs (tenant, id);

-- The queue. `blocked` waits for its image, `ready` for a worker (or for `not_before`), `leased` is held.
CREATE TABLE run_queue (
    run          UUID PRIMARY KEY REFERENCES runs,
    tenant       UUID NOT NULL,
    evaluation   UUID,
    kind         TEXT NOT NULL CHECK (kind IN ('evaluation', 'code')),
    class        TEXT NOT NULL,
    band         SMALLINT NOT NULL,
    not_before   TIMESTAMPTZ NOT NULL DEFAULT now(),
    task         TEXT NOT NULL,
    repeat       INT NOT NULL,
    image        TEXT,
    state        TEXT NOT NULL CHECK (state IN ('blocked', 'ready', 'leased')),
    attempt      UUID,
    number       INT NOT NULL DEFAULT 0,
    fence        BIGINT NOT NULL DEFAULT 0,
    lease_owner  UUID,
    lease_until  TIMESTAMPTZ,
    handed_off   BOOLEAN NOT NULL DEFAULT FALSE,
    cancel       BOOLEAN NOT NULL DEFAULT FALSE,
    CHECK ((state = 'leased') = (attempt IS NOT NULL)),
    CHECK ((state = 'leased') = (lease_until IS NOT NULL))
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
CREATE INDEX run_queue_ready ON run_queue (class, tenant, band, not_before, run) WHERE state = 'ready';
CREATE UNIQUE INDEX run_queue_leased ON run_queue (attempt) WHERE state = 'leased';
CREATE INDEX run_queue_leased_by_tenant ON run_queue (tenant, evaluation) WHERE state = 'leased';
CREATE INDEX run_queue_by_evaluation ON run_queue (evaluation);

CREATE TABLE workers (
    id            UUID PRIMARY KEY,
    name          TEXT NOT NULL CHECK (length(name) BETWEEN 1 AND 253),
    class         TEXT NOT NULL,
    slots         INT NOT NULL CHECK (slots BETWEEN 0 AND 10000),
    engine        TEXT NOT NULL,
    commit        TEXT NOT NULL,
    wire          INT NOT NULL,
    claiming      BOOLEAN NOT NULL DEFAULT TRUE,
    registered_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    seen_at       TIMESTAMPTZ NOT NULL DEFAULT now()
);
CREATE INDEX workers_by_name ON workers (name);

-- One try at a run. Moves while it is open, never afterwards; never overwritten by a later one.
CREATE TABLE attempts (
    id          UUID PRIMARY KEY,
    run         UUID NOT NULL REFERENCES runs,
    tenant      UUID NOT NULL,
    evaluation  UUID,
    number      INT NOT NULL CHECK (number > 0),
    fence       BIGINT NOT NULL,
    worker      UUID NOT NULL REFERENCES workers,
    worker_name TEXT NOT NULL,
    -- Seed of the sandbox's key pair, under the seal key of the control plane.
    seed_sealed BYTEA NOT NULL,
    budget_pico BIGINT NOT NULL CHECK (budget_pico >= 0),
    verifier_budget_pico BIGINT NOT NULL CHECK (verifier_budget_pico >= 0),
    limits      JSONB NOT NULL,
    state       TEXT NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'closed')),
    last_seq    BIGINT NOT NULL DEFAULT 0,
    step        INT NOT NULL DEFAULT 0,
    phase       TEXT,
    progress    JSONB NOT NULL,
    cause       TEXT,
    detail      TEXT,
    report      JSONB,
    score       DOUBLE PRECISION,
    cost_pico   BIGINT CHECK (cost_pico >= 0),
    deadline    TIMESTAMPTZ NOT NULL,
    started_at  TIMESTAMPTZ NOT NULL DEFAULT now(),
    finished_at TIMESTAMPTZ,
    UNIQUE (run, number),
    CHECK ((state = 'closed') = (cause IS NOT NULL)),
    CHECK ((state = 'closed') = (finished_at IS NOT NULL))
) WITH (fillfactor = 70);

CREATE FUNCTION refuse_change_of_closed_attempt() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'attempt % is closed', OLD.id USING ERRCODE = 'restrict_violation';
END $$;
CREATE TRIGGER closed_attempts_are_immutable BEFORE UPDATE OR DELETE ON attempts
    FOR EACH ROW WHEN (OLD.state = 'closed') EXECUTE FUNCTION refuse_change_of_closed_attempt();

-- Append-only. `seq` counts within the attempt, without gaps; `cursor` is global, given after commit by one publisher.
CREATE TABLE events (
    attempt     UUID NOT NULL REFERENCES attempts,
    seq         BIGINT NOT NULL CHECK (seq > 0),
    tenant      UUID NOT NULL,
    at          TIMESTAMPTZ NOT NULL,
    step        INT NOT NULL,
    phase       TEXT NOT NULL,
    kind        TEXT NOT NULL,
    data        JSONB NOT NULL,
    cursor      BIGINT UNIQUE,
    PRIMARY KEY (attempt, seq)
);
CREATE INDEX events_unpublished ON events (attempt, seq) WHERE cursor IS NULL;
CREATE SEQUENCE event_cursor;

-- How far each stream is, and its immutable pieces: up to 16 KiB in the row, larger ones in the object store.
CREATE TABLE output_streams (
    attempt UUID NOT NULL REFERENCES attempts,
    step    INT NOT NULL,
    phase   TEXT NOT NULL,
    stream  TEXT NOT NULL CHECK (stream IN ('stdout', 'stderr')),
    bytes   BIGINT NOT NULL,
    PRIMARY KEY (attempt, step, phase, stream)
) WITH (fillfactor = 70);

CREATE TABLE output_chunks (
    attempt UUID NOT NULL,
    step    INT NOT NULL,
    phase   TEXT NOT NULL,
    stream  TEXT NOT NULL,
    "offset" BIGINT NOT NULL CHECK ("offset" >= 0),
    length  INT NOT NULL CHECK (length > 0),
    inline  BYTEA,
    object  TEXT,
    PRIMARY KEY (attempt, step, phase, stream, "offset"),
    FOREIGN KEY (attempt, step, phase, stream) REFERENCES output_streams,
    CHECK ((inline IS NULL) <> (object IS NULL)),
    CHECK (inline IS NULL OR length(inline) = length)
);

CREATE TABLE artifacts (
    attempt    UUID NOT NULL REFERENCES attempts,
    name       TEXT NOT NULL CHECK (length(name) BETWEEN 1 AND 256),
    media_type TEXT NOT NULL,
    size_bytes BIGINT NOT NULL CHECK (size_bytes >= 0),
    digest     TEXT NOT NULL,
    object     TEXT NOT NULL,
    created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    PRIMARY KEY (attempt, name)
);

-- What may be spent, nested: operator 0, tenant 1, evaluation 2, run 3 (agent and verifier apart; an attempt holds its own
-- grant in its row). A claim reserves upwards, a report
-- settles upwards. The checks are the last guard: no code path can overdraw. `granted` NULL means no limit.
-- `operator` holds what attempts lost by our own fault had spent.
CREATE TABLE purses (
    level    SMALLINT NOT NULL CHECK (level BETWEEN 0 AND 3),
    owner    UUID NOT NULL,
    purpose  TEXT NOT NULL CHECK (purpose IN ('all', 'agent', 'verifier', 'operator')),
    granted  BIGINT CHECK (granted >= 0),
    reserved NUMERIC NOT NULL DEFAULT 0 CHECK (reserved >= 0),
    settled  NUMERIC NOT NULL DEFAULT 0 CHECK (settled >= 0),
    PRIMARY KEY (level, owner, purpose),
    CHECK (granted IS NULL OR reserved + settled <= granted)
) WITH (fillfactor = 70);
