// The health check, run by mongosh: healthy is the primary of the replica set, with the users of the
// services. What is missing of that is brought about here, so that a first start needs no other step. Passwords
// and roles are set again once for each start of the container: those of the environment hold after the next one.

const { existsSync, writeFileSync } = require("node:fs");

const { MONGO_INITDB_ROOT_USERNAME: root, MONGO_INITDB_ROOT_PASSWORD: rootPassword } = process.env;
const USERS_MADE = "/tmp/users-made";

const admin = db.getSiblingDB("admin");
admin.auth(root, rootPassword);

try {
  rs.status();
} catch (error) {
  if (error.codeName !== "NotYetInitialized") throw error;
  rs.initiate({ _id: "rs0", members: [{ _id: 0, host: "mongodb:27017" }] });
}

if (!admin.hello().isWritablePrimary) {
  print("not the primary yet");
  quit(1);
}

if (!existsSync(USERS_MADE)) {
  load("/etc/tracking/users.js");
  writeFileSync(USERS_MADE, "");
}
