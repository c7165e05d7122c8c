-- Whether any client has changed is asked four times a second: from an index, not from the metadata.
CREATE INDEX clients_version ON clients (version);
