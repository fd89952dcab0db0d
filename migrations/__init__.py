"""The schema's history: what each release did to the database. `store.schema` applies it."""
