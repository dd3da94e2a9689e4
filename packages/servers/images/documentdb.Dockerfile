ARG BASE
FROM ${BASE}
LABEL fieldseal.engine=documentdb
COPY documentdb-entrypoint.sh /usr/local/bin/docker-entrypoint.sh
COPY --chown=postgres:postgres template/ /var/lib/postgresql/
ENV PATH=/usr/local/bin:/usr/bin:/bin:/usr/lib/postgresql/18/bin PGDATA=/var/lib/postgresql/data
USER postgres:postgres
EXPOSE 5432
STOPSIGNAL SIGINT
ENTRYPOINT ["/bin/sh", "/usr/local/bin/docker-entrypoint.sh"]
