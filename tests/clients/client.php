<?php
// PHP's curl extension. It has no WebSockets.

if (!extension_loaded('curl')) {
    echo 'php-curl is not installed here; `make test-clients` installs it';
    exit(77);
}

function ask(string $method, string $url, string $key = '', mixed $body = null, array $more = []): array
{
    $headers = ['Authorization: Bearer ' . getenv('TOKEN'), ...$more];
    $handle = curl_init($url);
    if ($body !== null) {
        array_push($headers, 'Content-Type: application/json', "Idempotency-Key: $key");
        curl_setopt($handle, CURLOPT_POSTFIELDS, json_encode($body));
    }
    $found = [];
    curl_setopt_array($handle, [
        CURLOPT_CUSTOMREQUEST => $method,
        CURLOPT_HTTPHEADER => $headers,
        CURLOPT_RETURNTRANSFER => true,
        CURLOPT_HEADERFUNCTION => function ($handle, string $line) use (&$found): int {
            [$name, $value] = array_pad(explode(':', $line, 2), 2, '');
            $found[strtolower(trim($name))] = trim($value);
            return strlen($line);
        },
    ]);
    $content = curl_exec($handle);
    if ($content === false) {
        exit(curl_error($handle));
    }
    return [curl_getinfo($handle, CURLINFO_RESPONSE_CODE), $found, json_decode($content, true)];
}

[$ingest, $query] = [getenv('INGEST_URL'), getenv('QUERY_URL')];
[$order, $merchant] = [getenv('ORDER_ID'), getenv('MERCHANT_ID')];
$create = fn (string $id): array => [
    'order_id' => $id,
    'merchant_id' => $merchant,
    'customer' => ['name' => 'Zoë 東', 'contact_ref' => 'crm:1'],
];

[$created] = ask('POST', "$ingest/v1/orders", 'create', $create($order));
[$repeated, $again] = ask('POST', "$ingest/v1/orders", 'create', $create($order));
[$updated] = ask('POST', "$ingest/v1/orders/$order/updates", 'pick-up', ['status' => 'picked_up']);
$operations = [
    ['op' => 'create', ...$create("$order-b")],
    ['op' => 'create', ...$create("$order-c")],
    ['op' => 'update', 'order_id' => $order, 'status' => 'in_transit'],
];
[, , $batch] = ask('POST', "$ingest/v1/batch", 'batch', $operations, ['Expect: 100-continue']);

[, , $found] = ask('GET', "$query/v1/orders/$order");
[$listed, $pages, $next] = [[], 0, "/v1/orders?limit=1&merchant_id=$merchant"];
while ($next !== null) {
    [, $headers, $page] = ask('GET', $query . $next);
    $pages++;
    array_push($listed, ...array_column($page['items'], 'order_id'));
    $next = preg_match('/^<([^>]+)>; rel="next"$/', $headers['link'] ?? '', $link) ? $link[1] : null;
}
echo json_encode([
    'create' => $created,
    'repeat' => $repeated,
    'replayed' => $again['idempotent-replayed'] ?? '',
    'update' => $updated,
    'batch' => array_column($batch['results'], 'outcome'),
    'name' => $found['customer']['name'],
    'status' => $found['status'],
    'listed' => $listed,
    'pages' => $pages,
]), "\n";
