// The health check, run by mongosh: healthy is the primary of the replica set, with the user of the
// services. What is missing of that is brought about here, so that a first start needs no other step.

const {
  MONGO_INITDB_ROOT_USERNAME: root,
  MONGO_INITDB_ROOT_PASSWORD: rootPassword,
  TRACKING_USERNAME: username,
  TRACKING_PASSWORD: password,
  TRACKING_DATABASE: database,
} = process.env;

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

const tracking = db.getSiblingDB(database);
if (tracking.getUser(username) === null) {
  tracking.createUser({
    user: username,
    pwd: password,
    roles: [{ role: "readWrite", db: database }],
  });
}
