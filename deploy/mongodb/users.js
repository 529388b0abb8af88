// Makes a user of the database for each service, with a role that lets it do what stands in roles.json, and no
// more. Safe to repeat: it sets the passwords and roles again. Run it as root, on the primary:
//
//   INGEST_PASSWORD=… ORDER_STATE_PASSWORD=… NOTIFIER_PASSWORD=… QUERY_PASSWORD=… WEBHOOKS_PASSWORD=… \
//     OPERATOR_PASSWORD=… TRACKING_DATABASE=tracking mongosh --file users.js "mongodb://root:…@host/admin"

const { readFileSync } = require("node:fs");
const { join } = require("node:path");

const name = process.env.TRACKING_DATABASE ?? "tracking";
const database = db.getSiblingDB(name);
const roles = JSON.parse(readFileSync(join(__dirname, "roles.json"), "utf8"));

for (const [user, collections] of Object.entries(roles)) {
  const variable = `${user.toUpperCase().replace("-", "_")}_PASSWORD`;
  const pwd = process.env[variable];
  if (!pwd) throw new Error(`${variable}: set it`);
  const privileges = Object.entries(collections).map(([collection, actions]) => ({
    resource: { db: name, collection },
    actions,
  }));
  if (database.getRole(user) === null) {
    database.createRole({ role: user, privileges, roles: [] });
  } else {
    database.updateRole(user, { privileges, roles: [] });
  }
  const rights = { pwd, roles: [{ role: user, db: name }] };
  if (database.getUser(user) === null) {
    database.createUser({ user, ...rights });
  } else {
    database.updateUser(user, rights);
  }
}
