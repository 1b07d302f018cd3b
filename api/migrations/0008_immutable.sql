-- What is named by its content, and what was written down once, is never changed. Nothing of ours tries; this is for
-- whoever holds the database's password.
CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'a row of % is never changed', TG_TABLE_NAME USING ERRCODE = 'restrict_violation';
END $$;

CREATE TRIGGER policies_are_immutable BEFORE UPDATE OR DELETE ON policies
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER task_sets_are_immutable BEFORE UPDATE OR DELETE ON task_sets
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER task_set_items_are_immutable BEFORE UPDATE OR DELETE ON task_set_items
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER the_audit_is_immutable BEFORE UPDATE OR DELETE ON audit
    FOR EACH ROW EXECUTE FUNCTION refuse_change();

-- An event gets its cursor when it is published, once; nothing else of it changes.
CREATE TRIGGER events_are_immutable BEFORE UPDATE ON events FOR EACH ROW
    WHEN (OLD.cursor IS NOT NULL OR (OLD.attempt, OLD.seq, OLD.tenant, OLD.at, OLD.step, OLD.phase, OLD.kind, OLD.data)
        IS DISTINCT FROM (NEW.attempt, NEW.seq, NEW.tenant, NEW.at, NEW.step, NEW.phase, NEW.kind, NEW.data))
    EXECUTE FUNCTION refuse_change();
CREATE TRIGGER events_are_kept BEFORE DELETE ON events
    FOR EACH ROW EXECUTE FUNCTION refuse_change();
