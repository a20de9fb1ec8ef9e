"""Who may invest: how well a person is known and where it lives, and what a campaign asks of that.

Nobody has been asked yet: everybody begins at level 0, and the campaigns that exist ask for nothing.
"""

from alembic import op

revision = "0009"
down_revision = "0008"

COLUMNS = """
alter table users
    add column kyc_level smallint not null default 0 check (kyc_level between 0 and 3),
    add column country text check (country ~ '^[A-Z]{2}$');
grant select (kyc_level, country), update (kyc_level, country) on users to chama_app;
alter table campaigns
    add column min_kyc_level smallint not null default 0 check (min_kyc_level between 0 and 3),
    add column countries jsonb check (jsonb_typeof(countries) = 'array' and jsonb_array_length(countries) > 0);
"""

# The new terms are money terms like the others: fixed once a reviewer has seen them.
TERMS_FIXED = """
create trigger campaigns_eligibility_fixed before update of min_kyc_level, countries on campaigns for each row
    when (old.status not in ('draft', 'changes_requested')
        and (old.min_kyc_level, old.countries) is distinct from (new.min_kyc_level, new.countries))
    execute function campaign_terms_fixed();
"""


def upgrade() -> None:
    op.execute(COLUMNS)
    op.execute(TERMS_FIXED)
