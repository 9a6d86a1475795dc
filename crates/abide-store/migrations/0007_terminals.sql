-- What a terminal was started as (JSON). Null for interpreters; terminals have an empty `runtime`.
ALTER TABLE workers ADD COLUMN terminal TEXT;
