-- Whose journal has a step's output. Null for steps that ended before this column, and for those that no
-- worker was given.
ALTER TABLE steps ADD COLUMN worker_id BLOB;
