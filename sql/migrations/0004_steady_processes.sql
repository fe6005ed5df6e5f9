-- No beat has been missed since: this server was there, and so was the process.
alter table processes add column steady_since timestamptz not null default now();
