ARG BASE
FROM ${BASE}
COPY postgres-entrypoint.sh /usr/local/bin/docker-entrypoint.sh
ENV PATH=/usr/local/bin:/usr/bin:/bin:/usr/lib/postgresql/18/bin PGDATA=/var/lib/postgresql/data
RUN chown postgres:postgres /var/lib/postgresql
USER postgres:postgres
EXPOSE 5432
STOPSIGNAL SIGINT
ENTRYPOINT ["/bin/sh", "/usr/local/bin/docker-entrypoint.sh"]
CMD ["postgres"]
