-- What the machine of a rescue is made by, where that is not the server's own image.
ALTER TABLE compute_server_rescue ADD COLUMN image_properties TEXT;
