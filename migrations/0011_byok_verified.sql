-- When a customer's credential was last accepted by its provider, and why it is not good or not known to be.
ALTER TABLE byok ADD COLUMN verified_at INTEGER;
ALTER TABLE byok ADD COLUMN reason TEXT;
