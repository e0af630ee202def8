"""PostgreSQL: pool, migrations, and the queries of each table."""
